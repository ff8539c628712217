# SPDX-License-Identifier: BSD-2-Clause
"""C++ of equal instances: a loop over them, which the compiler makes one of vectors."""

from __future__ import annotations

from typing import Any

from .cells import Cell, Group, Nets, Words
from .expressions import Body, type_of
from .netlist import WordsError
from .order import in_order, narrow, producers

__all__ = ["emit_group", "group_fields"]


def group_fields(group: Group, number: int, whole: Words, *, in_place: bool) -> list[str]:
    """Return the state of a group: arrays over its instances."""
    size, out = len(group.paths), []
    ways = "f" if in_place else "fn"
    for index, cell in enumerate(group.body.cells):
        if cell.held and cell.kind != "input":
            out += [f"alignas(64) {type_of(cell.width)} {way}{index}[{size}];" for way in ways]
    for index in sorted(group.computed_outputs(whole, number)):
        width = group.body.cells[index].width
        out.append(f"alignas(64) {type_of(width)} o{index}[{size}];")
    return ["struct {", *out, f"}} g{number};"]


class _Loop(Body):
    """What is done for each instance ``l``."""

    def __init__(self, group: Group, number: int, inputs: dict[int, str], kept: set[int]) -> None:
        super().__init__(group.body.cells)
        self.group, self.number, self.inputs = group, number, inputs
        cells = self.cells
        nodes = [n for n, c in enumerate(cells) if c.kind not in ("none", "memory", "input")]
        waits = {n: producers(group.body, cells[n], {}) for n in nodes}
        self.order = in_order(waits, cells)
        narrow(group.body, self.order, kept)

    def ref(self, index: int) -> str:
        cell = self.cells[index]
        if cell.kind == "input":
            return self.inputs[index]
        return f"s.g{self.number}.f{index}[l]" if cell.held else f"v{index}"

    def word_of(self, memory: int, address: str) -> str:
        return f"table{memory}[{address}]"

    def next_state(self, *, in_place: bool) -> list[int]:
        """Compute the next state of all registers; return these.

        In place, a register is replaced once all that its old value is needed for is there.
        """
        registers = [n for n in self.order if self.cells[n].sink]
        behind = {n: self.group.behind({n}) for n in registers}
        users = _users(behind) if in_place else {n: set[int]() for n in registers}
        order = _users_first(users)
        computed: set[int] = set()
        kept: list[int] = []
        for index in order:
            for n in self.order:
                if n in behind[index] and n not in computed and not self.cells[n].held:
                    self.compute(n)
                    computed.add(n)
            width = self.cells[index].width
            self.lines += [
                f"const {type_of(width)} x{index} = {self._next(index)};",
                f"y{64 if width > 32 else 32} |= x{index} ^ {self.ref(index)};",
            ]
            computed.add(index)
            kept.append(index)
            ready = [n for n in kept if users[n] <= computed]
            way = "f" if in_place else "n"
            self.lines += [f"s.g{self.number}.{way}{n}[l] = x{n};" for n in ready]
            kept = [n for n in kept if n not in ready]
        return registers

    def _next(self, index: int) -> str:
        cell = self.cells[index]
        if cell.kind == "ff":
            return self.value(cell.inputs[0])
        if cell.kind == "sread" and not cell.ports:
            address, enable = (self.value(nets) for nets in cell.inputs)
            return f"{enable} ? {self.word_of(cell.memory, address)} : {self.ref(index)}"
        raise WordsError(f"Words cannot run {self.group.name} in a loop: {cell!r}")

    def tables(self) -> list[str]:
        """Return the memories, which are only read."""
        out = []
        for index, cell in enumerate(self.cells):
            if cell.kind == "memory":
                assert isinstance(cell.init, tuple)
                words = [
                    *cell.init,
                    *[0] * ((1 << max(cell.depth - 1, 0).bit_length()) - len(cell.init)),
                ]
                values = ", ".join(
                    f"{word:#x}{'ull' if cell.width > 32 else 'u'}" for word in words
                )
                out.append(f"static const {type_of(cell.width)} table{index}[] = {{{values}}};")
            elif cell.kind == "write" or cell.width > 64:
                raise WordsError(f"Words cannot run {self.group.name} in a loop: {cell!r}")
        return out


def _users(behind: dict[int, set[int]]) -> dict[int, set[int]]:
    """Return the other registers that each is used by."""
    return {n: {m for m in behind if n in behind[m]} - {n} for n in behind}


def _users_first(users: dict[int, set[int]]) -> list[int]:
    """Return registers, each behind those that use it, but where they use each other."""
    out: list[int] = []
    seen: set[int] = set()
    stack = [(n, False) for n in users]
    while stack:
        n, visited = stack.pop()
        if visited:
            out.append(n)
        elif n not in seen:
            seen.add(n)
            stack += [(n, True), *((m, False) for m in sorted(users[n] - seen))]
    return out


def emit_group(function: Any, cell: Cell, design: Any) -> None:
    """Add to a cluster's function what computes the outputs, or the next state, of a group."""
    number = cell.place[0]
    whole: Words = design.whole
    group = whole.groups[number]
    size = len(group.paths)
    outputs = group.computed_outputs(whole, number)
    if cell.kind == "outs" and not outputs:
        return
    needed = group.outputs_need(whole, number) if cell.kind == "outs" else None
    inputs = {
        index: _input(function, group, number, index)
        for index, each in enumerate(group.body.cells)
        if each.kind == "input" and (needed is None or index in needed)
    }
    loop = _Loop(group, number, inputs, outputs)
    if cell.kind == "outs":
        _emit_outputs(function, loop, outputs, size, design)
        return
    in_place = number in design.plan.in_place
    registers = loop.next_state(in_place=in_place)
    flag = function.changed(design.plan.users.get(design.plan.steps[number], ()))
    function.lines += [
        *loop.tables(),
        "u32 y32 = 0; u64 y64 = 0;",
        "#pragma GCC ivdep",
        f"for (int l = 0; l < {size}; l++) {{",
        *loop.lines,
        "}",
        f"{flag} |= y32 | y64;",
    ]
    if not in_place:
        function.commits += [
            f"memcpy(s.g{number}.f{index}, s.g{number}.n{index}, sizeof s.g{number}.f{index});"
            for index in registers
        ]


def _emit_outputs(function: Any, loop: _Loop, outputs: set[int], size: int, design: Any) -> None:
    number = loop.number
    behind = loop.group.behind(outputs)
    for index in loop.order:
        cell = loop.cells[index]
        if index in behind and not cell.held:
            loop.compute(index)
            if index in outputs:
                place = f"s.g{number}.o{index}[l]"
                loop.lines.append(f"y |= v{index} ^ {place}; {place} = v{index};")
    users = design.others(design.plan.outs[number], function.number)
    function.lines += [
        "u64 y = 0;",
        "#pragma GCC ivdep",
        f"for (int l = 0; l < {size}; l++) {{",
        *loop.lines,
        "}",
        f"if (y) {{ {design.marks(users)} }}",
    ]


def _input(function: Any, group: Group, number: int, index: int) -> str:
    """Return where an input of instance ``l`` is, once it has been gathered."""
    nets = [places[index] for places in group.inputs]
    if all(each == nets[0] for each in nets):
        name = f"b{number}_{index}"
        type_ = type_of(len(nets[0]))
        function.lines.append(f"const {type_} {name} = {function.value(nets[0])};")
        return name
    type_ = type_of(len(nets[0]))
    name = f"i{number}_{index}"
    function.lines.append(f"alignas(64) {type_} {name}[{len(nets)}];")
    lane = 0
    while lane < len(nets):
        end = lane
        source = _whole(function, nets[lane])
        while source and end + 1 < len(nets) and _follows(function, nets[end], nets[end + 1]):
            end += 1
        if source and end > lane:
            inner = f"s.g{source[0]}.{source[3]}{source[2]} + {source[1]}"
            count = end + 1 - lane
            function.lines.append(f"memcpy({name} + {lane}, {inner}, {count} * sizeof *{name});")
        else:
            function.lines.append(f"{name}[{lane}] = {function.value(nets[lane])};")
        lane = end + 1
    return f"{name}[l]"


def _whole(function: Any, nets: Nets) -> tuple[int, int, int, str] | None:
    """Return the group, the instance, and the cell in it that a value is, if it is one."""
    cell = function.cells[nets[0] >> 16]
    whole = cell.kind == "lane" and cell.width == len(nets)
    if not whole or nets != tuple(nets[0] >> 16 << 16 | bit for bit in range(cell.width)):
        return None
    group, lane, inner = cell.place
    held = function.design.whole.groups[group].body.cells[inner].held
    return group, lane, inner, "f" if held else "o"


def _follows(function: Any, one: Nets, other: Nets) -> bool:
    a, b = _whole(function, one), _whole(function, other)
    return a is not None and b is not None and (a[0], a[1] + 1, *a[2:]) == b
