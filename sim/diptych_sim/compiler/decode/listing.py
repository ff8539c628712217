# SPDX-License-Identifier: BSD-2-Clause
"""Programs of a tile as text: what the encoded instructions do, in names of the compiled model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diptych.mesh.fabric import Port
from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.compiler.decode.placement import Placement
from diptych_sim.compiler.decode.program import suffix_of
from diptych_sim.compiler.decode.routes import Color, RouteEntry
from diptych_sim.compiler.tile.assembler import disassemble
from diptych_sim.compiler.tile.registers import Register

__all__ = ["Disassembler", "memory_listing", "program_listing", "tile_listing"]

_TYPES = {Type.INT8: "int8", Type.INT16: "int16", Type.INT32: "int32"}
_TYPED = (Op.REQUANTIZE, Op.GATE, Op.RECEIVE, Op.NOISE)
"""Operations whose results may be of several types."""


class Disassembler:
    """Writes instructions as text.

    ``d <- f(a, b)`` stands for vectors and ``d = ...`` for registers; ``[...]`` is a word in memory,
    ``name + REGISTER`` an address, ``COLOR`` a stream of wavelets.
    """

    def __init__(self, placement: Placement, labels: dict[str, int]) -> None:
        regions = [*placement.fixed.values(), *placement.layer.values()]
        self._regions = sorted(regions, key=lambda region: region.address)
        self._labels = {index: name for name, index in labels.items()}

    def text(self, instruction: int) -> str:
        """Return an instruction as text."""
        op, function, f = disassemble(instruction)
        body = self._scalar(function, f) if op is Op.SCALAR else self._vector(op, f)
        early = op is Op.REQUANTIZE and f["planes"]
        received = "last wavelet received" if early else "receiver"
        for fence, what in (("fence_pipe", "pipe"), ("fence_receive", received)):
            if f[fence]:
                body += f", after the {what}"
        return f"{function.name if op is Op.SCALAR else op.name:<12} {body}".rstrip()

    def address(self, base: int, register: int = 0) -> str:
        """Return an address by the region that it lies in."""
        name = f"{base}"
        for region in self._regions:
            if region.address <= base < max(region.address + region.size, region.address + 1):
                behind = base - region.address
                name = f"{region.name} + {behind}" if behind else region.name
        return f"{name} + {_register(register)}" if register else name

    def _scalar(self, function: Function, f: dict[str, int]) -> str:
        d, a, b, chosen = (_register(f[name]) for name in ("d", "a", "b", "dynamic"))
        imm, color = f["imm"], _color(f["color"])
        moved = _sum(a, imm)
        place = self.address(imm, f["a"])
        target = self._labels.get(imm, f"{imm}")
        texts = {
            Function.END: "",
            Function.ADD: f"{d} = {_sum(a, b, imm)}",
            Function.SUBTRACT: f"{d} = {_sum(a, imm)} - {b}",
            Function.MULTIPLY: f"{d} = {a} * {imm}" + (f" + {b}" if f["b"] else ""),
            Function.AND: f"{d} = {a} & {_either(b, imm)}",
            Function.SHIFT_LEFT: f"{d} = {a} << {imm}",
            Function.SHIFT_RIGHT: f"{d} = {a} >> {imm}",
            Function.LESS_THAN: f"{d} = {a} < {_sum(b, imm)}",
            Function.SELECT: f"{d} = {chosen} ? {moved} : {b}",
            Function.LOAD: f"{d} = [{place}]",
            Function.STORE: f"[{place}] = {b}",
            Function.COMBINE: f"{d} = {a} * {b}",
            Function.SEND: f"{color} <- {moved}",
            Function.TAKE: f"{d} <- {color}",
            Function.TAKE_RECIPROCAL: f"{d} <- reciprocal({color})",
            Function.TAKE_RSQRT: f"{d} <- rsqrt({color})",
            Function.BRANCH: f"to {target} if {a}",
            Function.ACTIVATE: f"task {imm}",
            Function.BLOCK: f"task {imm}",
            Function.UNBLOCK: f"task {imm}",
        }
        return texts.get(function, f"{d} = {function.name.lower()}({moved})")

    def _vector(self, op: Op, f: dict[str, int]) -> str:
        a, b = self.address(f["a_base"], f["a_reg"]), self.address(f["b_base"], f["b_reg"])
        d = self.address(f["d_base"], f["d_reg"])
        count = _sum(_register(f["count_reg"]), f["count"])
        inner = _sum(_register(f["inner_reg"]), f["inner"])
        dynamic = _register(f["dynamic"])
        if f["to_color"]:
            d = _color(f["color"])
        elif Type(f["d_type"]) in _TYPES and op in _TYPED:
            d += f" ({_TYPES[Type(f['d_type'])]})"
        word = f"[{b}]" if f["static_memory"] else _register(f["b_reg"])
        scaled = f"{word} * {dynamic}, {f['bits']} bits"
        match op:
            case Op.MATVEC:
                planes = ", two planes" if f["planes"] else ""
                kind = _TYPES[Type(f["a_type"])]
                body = f"{d} <- ({a}) ({b}, {kind}), {count} rows of {inner} words{planes}"
            case Op.REQUANTIZE:
                body = f"{d} <- {count} of {a} ({_TYPES[Type(f['a_type'])]}) * {scaled}"
            case Op.ROTATE:
                body = f"{d} <- {count} pairs of {a}, factors {b}, {inner} pairs a head"
            case Op.EXPONENTIAL:
                body = f"{d} <- exp({_register(f['b_reg'])} - {count} of {a}, {dynamic})"
            case Op.GATE:
                scale = "" if Type(f["d_type"]) is Type.INT32 else f" * {scaled}"
                body = f"{d} <- {count} pairs of {a}, gated{scale}"
            case Op.NOISE:
                key, first = _register(f["b_reg"]), _register(f["a_reg"])
                body = f"{d} <- noise of {count} from {first}, key {key}, >> {inner}"
            case Op.RECEIVE if f["argmax"]:
                adds = f" + ({d})" if f["accumulate"] else ""
                body = f"MAXIMUM <- arg-max of {count} of {_color(f['color'])} * {scaled}{adds}"
            case Op.RECEIVE:
                adds = "+=" if f["accumulate"] else "<-"
                body = f"{d} {adds} {count} of {_color(f['color'])} * {scaled}"
            case _:
                shown = " ".join(f"{name}={value}" for name, value in f.items() if value)
                return shown
        if f["sends_statistic"]:
            return f"{body}, its statistic to {_color(f['color'])}"
        return body + (", with its statistic" if f["statistic"] else "")


def _register(number: int) -> str:
    return Register(number).name if number else "0"


def _color(number: int) -> str:
    return Color(number).name if number in list(Color) else f"color {number}"


def _sum(*terms: str | int) -> str:
    """Terms that are not 0, added."""
    text = " + ".join(f"{term}" for term in terms if term not in ("0", 0))
    return text.replace("+ -", "- ") or "0"


def _either(register: str, imm: int) -> str:
    return f"{imm:#x}" if register == "0" else f"({register} | {imm:#x})"


def program_listing(program: DecodeProgram) -> str:
    """Return what all tiles run, with the operations of the model and what each instruction is for.

    Where columns are of two kinds, what those without heads run comes last.
    """
    assembler = program.program
    kinds = {
        assembler.place(f"token{suffix_of(0, kind)}"): Disassembler(kind, assembler.labels)
        for kind in program.placement.programs
    }
    names = kinds[0]
    places = {index: name for name, index in assembler.labels.items()}
    out = []
    encoded = zip(assembler.encoded(), assembler.comments, strict=True)
    for index, (instruction, comment) in enumerate(encoded):
        names = kinds.get(index, names)
        if index in places:
            out.append(f"{places[index]}:")
        if index in assembler.notes:
            out.append(f"      ; {assembler.notes[index]}")
        text = f"{index:5} {names.text(instruction)}"
        out.append(f"{text:<76} ; {comment}" if comment else text)
    return "\n".join(out) + "\n"


def memory_listing(program: DecodeProgram) -> str:
    """Return where what lies in a tile's memory, of each kind of column."""
    lines = []
    for p in program.placement.kinds:
        if program.placement.headless is not None:
            lines.append(f"columns {p.span[0]} to {p.span[-1]}")
        lines += [f"{p.used_bytes} of {p.sram_bytes} bytes of SRAM", "address   bytes  region"]
        lines += [f"{r.address:7} {r.size:7}  {r.name}" for r in p.fixed.values()]
        lines.append(f"and for each layer, {p.layer_bytes} bytes apart:")
        lines += [f"{r.address:7} {r.size:7}  {r.name}" for r in p.layer.values()]
    return "\n".join(lines) + "\n"


def tile_listing(program: DecodeProgram, row: int, column: int) -> str:
    """Return what makes a tile differ from the others: its part, registers, tasks and routes."""
    p = program.placement.of_column(column)
    config, local = program.model.config, column - p.span.start
    lines = [f"tile {row},{column} of {p.rows}x{p.columns}"]
    for what, begin, size, total in (
        ("residual elements", row * p.chunk, p.chunk, config.dim),
        ("query heads", local * p.heads, p.heads, config.heads),
        ("hidden elements", p.first_hidden + local * p.hidden, p.hidden, config.hidden),
        ("tokens", p.first_token + local * p.vocabulary, p.vocabulary, config.vocab),
    ):
        first, end = min(begin, total), min(begin + size, total)
        lines.append(f"{what:>18}: " + (f"{first} to {end - 1}" if end > first else "none"))
    first, deal = p.positions.due(row, 0), p.positions
    blocks = (range(at, at + deal.block) for at in (first, first + deal.turns))
    texts = [f"{b[0]} to {b[-1]}" if deal.block > 1 else f"{b[0]}" for b in blocks]
    lines.append(f"{'positions':>18}: {', '.join(texts)} ...")
    lines.append("registers")
    for register, value in program.registers(row, column).items():
        lines.append(f"{register.name:>18} = {value}")
    for n, (count, turn) in enumerate(program.turns(row)):
        lines.append(f"{f'sequence {n}':>18}: COUNT = {count}, TURN = {turn}")
    lines.append("routes")
    lines += _routes(program.routes[row][column])
    return "\n".join(lines) + "\n"


def _routes(table: Sequence[RouteEntry]) -> Iterator[str]:
    for color, route in enumerate(table):
        if not route.sources:
            continue
        sources, targets = (
            " ".join(port.name.lower() for port in Port if port in ports) or "nowhere"
            for ports in (route.sources, route.targets)
        )
        meets = "" if len(route.sources) == 1 else f", {route.combine.name.lower()}"
        leaves = "" if route.color == color else f", as {_color(route.color)}"
        yield f"{_color(color):>18}: from {sources} to {targets}{meets}{leaves}"
