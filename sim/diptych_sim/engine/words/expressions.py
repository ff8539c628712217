# SPDX-License-Identifier: BSD-2-Clause
"""C++ of single cells: 32 or 64 bits in an integer, more in an array of words."""

from __future__ import annotations

from .cells import Cell, Nets, Piece, pieces
from .netlist import WordsError

__all__ = ["Body", "mask_of", "type_of"]

_COMPARE = {"<", ">", "<=", ">="}


def type_of(width: int) -> str:
    """Return the C++ type of a value."""
    if width <= 32:
        return "u32"
    return "u64" if width <= 64 else f"B<{-(-width // 64)}>"


def mask_of(width: int) -> str:
    """Return the C++ of ones in all bits of an integer type that a value uses."""
    return f"{(1 << width) - 1:#x}{'ull' if width > 32 else 'u'}"


def _full(width: int) -> bool:
    return width in (32, 64)


class Body:
    """Statements that compute cells, each into a variable ``v<cell>``.

    Attributes
    ----------
    lines : list of str
        The statements.
    """

    def __init__(self, cells: list[Cell]) -> None:
        self.cells = cells
        self.lines: list[str] = []
        self._values: dict[Nets, str] = {}

    def ref(self, index: int) -> str:
        """Return where a cell's value is."""
        raise NotImplementedError

    def word_of(self, memory: int, address: str) -> str:
        """Return a word of a memory."""
        raise NotImplementedError

    # --- values ---

    def bit(self, nets: Nets) -> str:
        """Return a condition."""
        return self.value(nets)

    def value(self, nets: Nets) -> str:
        """Return the C++ of a value, of the type of its width."""
        found = self._values.get(nets)
        if found is None:
            found = self._wide(nets) if len(nets) > 64 else self._small(nets)
            if len(nets) > 1 and not found.isidentifier() and found.count("(") > 1:
                name = f"t{len(self._values)}"
                self.lines.append(f"const {type_of(len(nets))} {name} = {found};")
                found = name
            self._values[nets] = found
        return found

    def _small(self, nets: Nets) -> str:
        type_ = type_of(len(nets))
        parts = [self._part(piece, type_) for piece in pieces(nets) if piece.cell or piece.start]
        if not parts:
            return f"{type_}(0)"
        return parts[0] if len(parts) == 1 else f"{type_}({' | '.join(parts)})"

    def _part(self, piece: Piece, type_: str) -> str:
        if not piece.cell:
            value = piece.start << piece.at
            return f"{type_}({value:#x}{'ull' if value >> 32 else 'u'})"
        width = self.cells[piece.cell].width
        length = 1 if piece.repeated else piece.length
        text = self.ref(piece.cell)
        if width > 64:
            text = f"get<{piece.start}, {length}>({text})"
            have = "u64"
        else:
            have = type_of(width)
            if piece.start:
                text = f"({text} >> {piece.start})"
            if piece.start + length < width:
                text = f"({text} & {mask_of(length)})"
        if have != type_:
            text = f"{type_}({text})"
        if piece.repeated:
            text = f"(({type_}(0) - {text}) & {type_}({mask_of(piece.length)}))"
        return f"({text} << {piece.at})" if piece.at else text

    def _wide(self, nets: Nets) -> str:
        found = list(pieces(nets))
        first = found[0]
        whole = Piece(first.cell, 0, self.cells[first.cell].width, 0)
        if first.cell and found == [whole]:
            return self.ref(first.cell)
        name = f"t{len(self._values)}_"
        self.lines.append(f"{type_of(len(nets))} {name} = {{}};")
        for piece in found:
            at, length = piece.at, piece.length
            if not piece.cell:
                for low in range(0, length, 64):
                    size = min(64, length - low)
                    value = piece.start >> low & (1 << size) - 1
                    if value:
                        self.lines.append(f"put<{at + low}, {size}>({name}, {value:#x}ull);")
            elif piece.repeated:
                bit = self._part(Piece(piece.cell, piece.start, 1, 0), "u32")
                self.lines.append(f"fill<{at}, {length}>({name}, {bit});")
            elif self.cells[piece.cell].width > 64:
                source = self.ref(piece.cell)
                self.lines.append(f"move<{piece.start}, {length}, {at}>({name}, {source});")
            else:
                part = self._part(Piece(piece.cell, piece.start, length, 0), type_of(length))
                self.lines.append(f"put<{at}, {length}>({name}, {part});")
        return name

    # --- cells ---

    def compute(self, index: int) -> None:
        """Add the statements of a cell."""
        cell = self.cells[index]
        text = self.expression(cell)
        self.lines.append(f"const {type_of(cell.width)} v{index} = {text};")

    def expression(self, cell: Cell) -> str:
        """Return what a cell computes."""
        match cell.kind:
            case "matches":
                return self._matches(cell)
            case "first":
                enable, bits = (self.value(nets) for nets in cell.inputs)
                if cell.width == 1:
                    return f"({enable} & {bits})"
                type_ = type_of(cell.width)
                if cell.width > 64:
                    negative = f"trim<{cell.width}>(subtract({type_}{{}}, {bits}))"
                    return f"({enable} ? ({bits} & {negative}) : {type_}{{}})"
                return f"({bits} & ({type_}(0) - {bits}) & ({type_}(0) - {type_}({enable})))"
            case "assign":
                return self._assign(cell)
            case "aread":
                return self.word_of(cell.memory, self.value(cell.inputs[0]))
            case "part":
                return self._part_select(cell)
        return self._operator(cell)

    def _matches(self, cell: Cell) -> str:
        value = self.value(cell.inputs[0])
        width = len(cell.inputs[0])
        out = []
        for pattern in cell.patterns:
            want = int(pattern.replace("-", "0") or "0", 2)
            care = int("".join("0" if c == "-" else "1" for c in pattern) or "0", 2)
            tests = []
            for low in range(0, width, 64):
                size = min(64, width - low)
                mask = care >> low & (1 << size) - 1
                word = value if width <= 64 else f"get<{low}, {size}>({value})"
                number = f"{want >> low & mask:#x}{'ull' if size > 32 else 'u'}"
                if mask == (1 << size) - 1:
                    tests.append(f"{word} == {number}")
                elif mask or width <= 64:
                    tests.append(f"({word} & {mask:#x}{'ull' if size > 32 else 'u'}) == {number}")
            out.append(" && ".join(tests) or "true")
        return (
            f"u32({' || '.join(out)})"
            if len(out) == 1
            else f"u32({' | '.join(f'({o})' for o in out)})"
        )

    def _assign(self, cell: Cell) -> str:
        name = f"a{len(self.lines)}"
        type_ = type_of(cell.width)
        default = self.value(cell.inputs[0])
        steps = []
        for n, start in enumerate(cell.starts):
            condition, nets = cell.inputs[1 + 2 * n : 3 + 2 * n]
            test, value = self.bit(condition), self.value(nets)
            if len(nets) == cell.width:
                new = value
            elif cell.width > 64:
                steps.append(f"if ({test}) set<{start}, {len(nets)}>({name}, {value});")
                continue
            else:
                hole = ((1 << cell.width) - 1) & ~(((1 << len(nets)) - 1) << start)
                suffix = "ull" if cell.width > 32 else "u"
                new = f"(({name} & {hole:#x}{suffix}) | ({type_}({value}) << {start}))"
            if cell.width > 64:
                steps.append(f"if ({test}) {name} = {new};")
            else:
                steps.append(
                    f"{name} = {test} ? {new} : {name};"
                    if test != "u32(0x1u)"
                    else f"{name} = {new};"
                )
        self.lines.append(f"{type_} {name} = {default};")
        self.lines += steps
        return name

    def _part_select(self, cell: Cell) -> str:
        nets, offset = cell.inputs
        value, by = self.value(nets), self.value(offset)
        width, type_ = len(nets), type_of(cell.width)
        if width <= 64:
            sign = f"signed_of<{width}>({value})" if cell.flag else value
            text = (
                f"shift_right(({'s64' if cell.flag else 'u64'})({sign}), u64({by}) * {cell.stride})"
            )
            return f"{type_}({text} & {mask_of(cell.width)})"
        if cell.flag:
            raise WordsError("Words select no part of a wide signed value")
        text = f"shift_right({value}, u64({by}) * {cell.stride})"
        if cell.width > 64:
            return f"cut<{cell.width}, {-(-cell.width // 64)}>({text})"
        return f"{type_}(get<0, {cell.width}>({text}))"

    def _operator(self, cell: Cell) -> str:
        op, width = cell.kind, cell.width
        values = [self.value(nets) for nets in cell.inputs]
        wide = len(cell.inputs[-1]) > 64 or width > 64
        type_, mask = type_of(width), mask_of(min(width, 64))
        if op == "m":
            return f"({values[0]} ? {values[1]} : {values[2]})"
        if op in ("&", "|", "^"):
            return f"({values[0]} {op} {values[1]})"
        if op == "~":
            return f"invert<{width}>({values[0]})" if wide else f"({values[0]} ^ {mask})"
        if op in ("b", "r|"):
            return f"any({values[0]})" if wide else f"u32({values[0]} != 0)"
        if op == "r&":
            size = len(cell.inputs[0])
            if size > 64:
                return f"(any(invert<{size}>({values[0]})) ^ 1u)"
            return f"u32({values[0]} == {mask_of(size)})"
        if op == "r^":
            return f"u32(__builtin_parityll({values[0]}))"
        if op in ("==", "!="):
            if wide:
                return f"(any({values[0]} ^ {values[1]}) ^ {int(op == '==')}u)"
            return f"u32({values[0]} {op} {values[1]})"
        if op[0] in "us" and op[1:] in _COMPARE:
            size = len(cell.inputs[0])
            if size > 64:
                raise WordsError(f"Words compare at most 64 bits, not {size!r}")
            if op[0] == "s":
                values = [f"signed_of<{size}>({value})" for value in values]
            return f"u32({values[0]} {op[1:]} {values[1]})"
        if op in ("+", "-", "*") and len(values) == 1:
            values = [f"{type_}{{}}" if wide else f"{type_}(0)", *values]
        if op in ("+", "-", "*"):
            if wide:
                name = {"+": "add", "-": "subtract", "*": "multiply"}[op]
                return f"trim<{width}>({name}({values[0]}, {values[1]}))"
            text = f"({values[0]} {op} {values[1]})"
            return text if _full(width) else f"({text} & {mask})"
        if op == "<<":
            if width > 64:
                return f"trim<{width}>(shift_left({values[0]}, u64({values[1]})))"
            text = f"shift_left({values[0]}, {values[1]})"
            return text if _full(width) else f"({text} & {mask})"
        if op in ("u>>", "s>>"):
            if width > 64 and op == "u>>":
                return f"shift_right({values[0]}, u64({values[1]}))"
            if width > 64:
                raise WordsError("Words shift no wide signed value")
            if op == "u>>":
                return f"shift_right({values[0]}, {values[1]})"
            signed = f"signed_of<{width}>({values[0]})"
            text = f"{type_}(shift_right({signed}, {values[1]}))"
            return text if _full(width) else f"({text} & {mask})"
        raise WordsError(f"Words cannot run the operator {op!r}")
