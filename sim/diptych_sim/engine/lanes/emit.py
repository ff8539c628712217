# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ of a design: what 64 instances do in a cycle."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .graph import Graph
from .lower import Lowered, MemoryState, Read, Register, Write
from .schedule import Schedule

__all__ = ["Element", "Layout", "emit", "lay_out"]

LANES = 64
STEPS = 400
"""Operations in a C++ function; compilers are slow with long ones."""
_PLACE = re.compile(r"@(\d+)@")


def element_bytes(width: int) -> int:
    """Return the bytes of a lane's element; 0 for a single bit."""
    return 0 if width == 1 else 1 if width <= 8 else 2 if width <= 16 else 4 if width <= 32 else 8


def _type(width: int) -> str:
    return f"uint{8 * element_bytes(width)}_t"


@dataclass(frozen=True)
class Element:
    """Where something of a block of lanes is: ``size`` bytes a lane, or a bit a lane."""

    offset: int
    size: int
    width: int


@dataclass
class Layout:
    """A block of lanes in memory.

    Attributes
    ----------
    nodes : dict of int to Element
        Registers, read ports, inputs, and outputs that are no registers, by node. Those hold what
        they were in the last cycle.
    memories : dict of int to list of Element
        Pieces of each memory; row ``n`` is ``n`` vectors further on.
    state_bytes, bytes : int
        Size without the memories, and with them.
    """

    nodes: dict[int, Element] = field(default_factory=dict)
    memories: dict[int, list[Element]] = field(default_factory=dict)
    state_bytes: int = 0
    bytes: int = 0


def lay_out(low: Lowered) -> Layout:
    """Place the state of a block: single bits first, then words, then memories."""
    nodes = low.graph.nodes
    sources = [register.node for register in low.registers]
    sources += [node for port in low.inputs.values() for node, _, _ in port]
    sources += [node for read in low.reads for node, _, _ in read.targets]
    layout = Layout()
    outputs = {net >> 6 for nets in low.outputs.values() for net in nets}
    sources += [node for node in outputs if node > 1 and nodes[node].op != "source"]
    at = 0
    for node in sorted(sources, key=lambda n: (nodes[n].width > 1, n)):
        size = element_bytes(nodes[node].width)
        if size:
            at = -(-at // 64) * 64
        layout.nodes[node] = Element(at, size, nodes[node].width)
        at += size * LANES or LANES // 8
    layout.state_bytes = at = -(-at // 4096) * 4096
    for memory in low.memories.values():
        if memory.shared:
            continue
        layout.memories[memory.cell] = []
        for _, width in memory.pieces:
            size = element_bytes(width)
            layout.memories[memory.cell].append(Element(at, size, width))
            at += -(-memory.depth * (size * LANES or LANES // 8) // 64) * 64
    layout.bytes = -(-at // 4096) * 4096
    return layout


class _Emitter:
    def __init__(self, low: Lowered, plan: Schedule, layout: Layout) -> None:
        self.low, self.plan, self.layout = low, plan, layout
        self.graph: Graph = low.graph
        self.nodes = low.graph.nodes
        self.functions: list[list[str]] = [[]]
        self.made: dict[int, int] = {}
        self.used: dict[int, set[int]] = {}
        self.count = 0

    # --- operands ---

    def ref(self, node: int) -> str:
        kind = self.nodes[node]
        if kind.op == "const" and kind.width == 1:
            return "~(B)0" if kind.args[0] else "(B)0"
        if kind.op == "const":
            return f"all<{_type(kind.width)}>({kind.args[0]}ull)"
        if kind.op == "source":
            return self.state(node)
        self.used.setdefault(node, set()).add(len(self.functions) - 1)
        return f"@{node}@"

    def state(self, node: int) -> str:
        place = self.layout.nodes[node]
        type_ = "B" if not place.size else f"V<{_type(place.width)}>"
        return f"(*({type_}*)(s + {place.offset}))"

    def cast(self, node: int, width: int) -> str:
        have, want = _type(self.nodes[node].width), _type(width)
        if self.nodes[node].op == "const":
            return f"all<{want}>({self.nodes[node].args[0]}ull)"
        ref = self.ref(node)
        return ref if have == want else f"cast<{want}>({ref})"

    def masked(self, text: str, width: int) -> str:
        full = 8 * element_bytes(width)
        if width == full:
            return text
        return f"band<{_type(width)}>({text}, {_type(width)}({(1 << width) - 1}ull))"

    # --- operations ---

    def expression(self, node: int) -> str:
        op, width, args = self.nodes[node]
        ref = self.ref
        if width == 1 and op in ("and", "or", "xor"):
            return f"{ref(args[0])} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[op]} {ref(args[1])}"
        if op == "not":
            return f"~{ref(args[0])}"
        if op == "mux" and width == 1:
            c, a, b = (ref(arg) for arg in args)
            return f"({c} & {a}) | (~{c} & {b})"
        if op == "bit":
            return f"bit({ref(args[0])}, {args[1]})"
        if op == "any":
            return f"nonzero({ref(args[0])})"
        if op in ("eq", "ult", "slt"):
            size = max(self.nodes[arg].width for arg in args)
            a, b = (self.cast(arg, size) for arg in args)
            if op == "slt" and (rest := 8 * element_bytes(size) - size):
                a, b = (f"left<{rest}>({x})" for x in (a, b))
            return f"{ {'eq': 'equal', 'ult': 'below', 'slt': 'less'}[op] }({a}, {b})"
        if op == "mux":
            return (
                f"select({ref(args[0])}, {self.cast(args[1], width)}, {self.cast(args[2], width)})"
            )
        if op in ("wand", "wor", "wxor"):
            name = {"wand": "band", "wor": "bor", "wxor": "bxor"}[op]
            return f"{name}({self.cast(args[0], width)}, {self.cast(args[1], width)})"
        if op == "wnot":
            full = (1 << width) - 1
            return f"bxor({self.cast(args[0], width)}, all<{_type(width)}>({full}ull))"
        if op in ("add", "sub"):
            return self.masked(
                f"{op}({self.cast(args[0], width)}, {self.cast(args[1], width)})", width
            )
        if op in ("mul", "shl", "shr", "sar"):
            return self.wide(op, width, args)
        if op == "sext":
            narrow = self.nodes[args[0]].width
            return self.masked(f"extend<{narrow}>({self.cast(args[0], width)})", width)
        if op == "cat":
            return self.cat(width, args)
        if op == "aread":
            return self.read_now(width, *args)
        raise AssertionError(op)

    def wide(self, op: str, width: int, args: tuple) -> str:
        # There is no arithmetic of this kind on bytes.
        size = max(width, 16, *(self.nodes[arg].width for arg in args[1:] if op != "mul"))
        a, b = self.cast(args[0], size), self.cast(args[1], size)
        if op == "sar":
            a = f"extend<{width}>({a})"
        name = {"mul": "mul", "shl": "shiftl", "shr": "shiftr", "sar": "shifta"}[op]
        text = f"{name}({a}, {b})"
        if _type(size) != _type(width):
            text = f"cast<{_type(width)}>({text})"
        return self.masked(text, width)

    def cat(self, width: int, pieces: tuple) -> str:
        type_ = _type(width)
        text = ""
        constant = sum(1 << place for node, _, _, place in pieces if node == 1)
        for node, low, length, place in pieces:
            if node < 2 or self.nodes[node].width == 1:
                continue
            have = self.nodes[node].width
            part = self.ref(node)
            if low and length > 1:
                part = f"right<{low}>({part})"
            if low + length < have and (low == 0 or length > 1):
                part = f"band<{_type(have)}>({part}, {_type(have)}({(1 << length) - 1}ull))"
            if length == 1 and have > 1:
                part = f"band<{_type(have)}>(right<{low}>({self.ref(node)}), {_type(have)}(1))"
            if _type(have) != type_:
                part = f"cast<{type_}>({part})"
            if place:
                part = f"left<{place}>({part})"
            text = f"bor({text}, {part})" if text else part
        if constant or not text:
            base = f"all<{type_}>({constant}ull)"
            text = f"bor({text}, {base})" if text else base
        for node, _, _, place in pieces:
            if node > 1 and self.nodes[node].width == 1:
                text = f"put<{type_}>({self.ref(node)}, {text}, {type_}({1 << place}ull))"
        return text

    def read_now(self, width: int, memory: int, low: int, address: tuple[int, ...]) -> str:
        state = self.low.memories[memory]
        number = [first for first, _ in state.pieces].index(low)
        piece = self.layout.memories[memory][number] if not state.shared else None
        type_ = "B" if width == 1 else f"V<{_type(width)}>"

        def row(index: int) -> str:
            if piece is None or index >= state.depth:
                raise AssertionError("asynchronous read of a table")
            step = piece.size * LANES or LANES // 8
            return f"(*({type_}*)(s + {piece.offset + index * step}))"

        def choose(at: int, index: int) -> str:
            if at < 0:
                return row(index)
            bit = address[at]
            if bit < 2:
                return choose(at - 1, index | bit << at)
            above, below = choose(at - 1, index | 1 << at), choose(at - 1, index)
            if width == 1:
                return f"(({self.ref(bit)} & {above}) | (~{self.ref(bit)} & {below}))"
            return f"select({self.ref(bit)}, {above}, {below})"

        return choose(len(address) - 1, 0)

    # --- statements ---

    def line(self, text: str) -> None:
        self.functions[-1].append(text)

    def pause(self) -> None:
        if self.count >= STEPS:
            self.functions.append([])
            self.count = 0

    def steps(self) -> None:
        depth = 0
        for step in self.plan.steps:
            if step.kind == "open":
                region = self.plan.regions[step.node]
                condition = self.ref(region.condition)
                # Lanes beyond the last instance hold what an idle one holds.
                self.line(f"if ({condition if region.when else f'~{condition}'}) {{")
                depth += 1
            elif step.kind == "close":
                self.line("}")
                depth -= 1
            else:
                text = self.expression(step.node)
                self.made[step.node] = len(self.functions) - 1
                self.line(f"@{step.node}@ = {text};")
                self.count += 1
            if depth == 0:
                self.pause()

    def asserts(self) -> None:
        for number, (node, _) in enumerate(self.low.asserts):
            if node:
                self.line(f"if (B wrong = {self.ref(node)} & live) fail(c, {number}, wrong);")

    def outputs(self) -> None:
        for node in self.layout.nodes:
            if self.nodes[node].op != "source":
                self.line(f"{self.state(node)} = {self.ref(node)};")

    def commits(self) -> None:
        for copy, (place, node) in enumerate(sorted(self.plan.copies)):
            raise AssertionError(f"{copy} {place} {node}")
        for commit in self.plan.commits:
            what = commit.what
            if isinstance(what, Register):
                self.register(what, commit.arms)
            elif isinstance(what, Read):
                self.read(what)
            else:
                self.write(what)
            self.count += 1
            self.pause()

    def register(self, what: Register, arms: list[tuple[int, int]]) -> None:
        to = self.state(what.node)
        width = self.nodes[what.node].width
        if not arms:
            text = self.ref(what.next) if width == 1 else self.cast(what.next, width)
            self.line(f"{to} = {text};")
        for condition, value in arms:
            mask = self.ref(condition)
            self.line(f"if ({mask}) {to} = select({mask}, {self.cast(value, width)}, {to});")

    def read(self, what: Read) -> None:
        memory = self.low.memories[what.memory]
        mask = self.ref(what.enable)
        if what.enable == 0:
            return
        self.line(f"if (B m = {mask}) {{")
        address = self.ref(what.address)
        if self.nodes[what.address].op == "const":
            self.line(f"const auto at = {address};")
        else:
            self.line(f"const auto& at = {address};")
        for number, (low, width) in enumerate(memory.pieces):
            size = max(width, 2)
            type_ = _type(size)
            self.line(f"V<{type_}> p{number};")
            if memory.shared:
                table = f"table_{memory.cell}_{number}"
                self.line(f"look_up_shared(m, {table}, {memory.depth}, at, p{number});")
            else:
                piece = self.layout.memories[memory.cell][number]
                words = f"(const {type_}*)(s + {piece.offset})"
                self.line(f"look_up(m, {words}, {memory.depth}, at, p{number});")
            for node, first, count in what.targets:
                if not low <= first < low + width:
                    continue
                to = self.state(node)
                shift = first - low
                if count == 1:
                    self.line(f"{to} = ({to} & ~m) | (bit(p{number}, {shift}) & m);")
                    continue
                text = f"right<{shift}>(p{number})" if shift else f"p{number}"
                if shift + count < 8 * element_bytes(size):
                    text = f"band<{type_}>({text}, {type_}({(1 << count) - 1}ull))"
                if _type(count) != type_:
                    text = f"cast<{_type(count)}>({text})"
                self.line(f"{to} = select(m, {text}, {to});")
        self.line("}")

    def write(self, what: Write) -> None:
        memory = self.low.memories[what.memory]
        if what.enable == 0:
            return
        self.line(f"if (B m = {self.ref(what.enable)}) {{")
        width = self.nodes[what.address].width
        self.line(f"const V<{_type(width)}> at_ = {self.ref(what.address)};")
        self.line(f"const {_type(width)}* at = (const {_type(width)}*)&at_;")
        for number, (piece, (node, parts)) in enumerate(
            zip(self.layout.memories[memory.cell], what.data, strict=True)
        ):
            if piece.size == 0:
                self.line(f"const B d{number} = {self.ref(node)};")
            else:
                type_ = _type(piece.width)
                self.line(f"const V<{type_}> d{number} = {self.cast(node, piece.width)};")
            for part, (enable, _, _) in enumerate(parts):
                self.line(f"const B e{number}_{part} = {self.ref(enable)};")
        self.line("int k;")
        self.line("EACH_SET(m, k) {")
        self.line(f"const size_t row = at[k]; if (row >= {memory.depth}) continue;")
        for number, (piece, (_, parts)) in enumerate(
            zip(self.layout.memories[memory.cell], what.data, strict=True)
        ):
            if piece.size == 0:
                to = f"((B*)(s + {piece.offset}))[row]"
                self.line(
                    f"if (e{number}_0 >> k & 1) {to} = ({to} & ~((B)1 << k)) | "
                    f"((d{number} >> k & 1) << k);"
                )
                continue
            type_ = _type(piece.width)
            masks = [
                f"((({type_})(e{number}_{part} >> k & 1) * {type_}({(1 << size) - 1}ull)) << {low})"
                for part, (_, low, size) in enumerate(parts)
            ]
            self.line(f"const {type_} w{number} = {' | '.join(masks)};")
            to = f"(({type_}*)(s + {piece.offset}))[row * LANES + k]"
            self.line(f"{to} = ({to} & ~w{number}) | ((({type_}*)&d{number})[k] & w{number});")
        self.line("}")
        self.line("}")

    # --- all of it ---

    def text(self) -> str:
        self.steps()
        self.asserts()
        self.outputs()
        self.commits()
        # Values that are used in a later function are kept in a block of their own.
        crossing = {n for n, users in self.used.items() if users != {self.made[n]}}
        offsets: dict[int, int] = {}
        at = 0
        for node in sorted(crossing, key=lambda n: (self.nodes[n].width > 1, n)):
            size = element_bytes(self.nodes[node].width)
            if size:
                at = -(-at // 64) * 64
            offsets[node] = at
            at += size * LANES or LANES // 8

        def name(match: re.Match[str]) -> str:
            node = int(match[1])
            if node in crossing:
                width = self.nodes[node].width
                type_ = "B" if width == 1 else f"V<{_type(width)}>"
                return f"(*({type_}*)(t + {offsets[node]}))"
            return f"n{node}"

        out = ['#include "lanes.h"', '#include "engine.h"']
        for memory in self.low.memories.values():
            if memory.shared:
                out += _tables(memory)
        for index, lines in enumerate(self.functions):
            out.append(f"static void f{index}(char* s, char* t, B live, Context* c) {{")
            for node in sorted(n for n, f in self.made.items() if f == index and n not in crossing):
                width = self.nodes[node].width
                out.append(f"{'B' if width == 1 else f'V<{_type(width)}>'} n{node};")
            out += [_PLACE.sub(name, line) for line in lines]
            out.append("}")
        out.append('extern "C" {')
        out.append("void cycle(char* s, char* t, B live, Context* c) {")
        out += [f"f{index}(s, t, live, c);" for index in range(len(self.functions))]
        out.append("}")
        out.append("void reset_block(char* s) {")
        for register in self.low.registers:
            if register.resets:
                out.append(f"{self.state(register.node)} = {self.initial(register)};")
        out.append("}")
        out.append("void start_block(char* s) {")
        for register in self.low.registers:
            if register.init:
                out.append(f"{self.state(register.node)} = {self.initial(register)};")
        for memory in self.low.memories.values():
            if not memory.shared and any(memory.init):
                out += self.fill(memory)
        out.append("}")
        out.append(f"long scratch_bytes() {{ return {-(-at // 4096) * 4096 + 4096}; }}")
        out.append("}")
        return "\n".join(out) + "\n"

    def initial(self, register: Register) -> str:
        width = self.nodes[register.node].width
        if width == 1:
            return "~(B)0" if register.init else "(B)0"
        return f"all<{_type(width)}>({register.init}ull)"

    def fill(self, memory: MemoryState) -> list[str]:
        out = []
        for piece, (low, width) in zip(
            self.layout.memories[memory.cell], memory.pieces, strict=True
        ):
            for row, word in enumerate(memory.init):
                value = word >> low & (1 << width) - 1
                if not value:
                    continue
                step = piece.size * LANES or LANES // 8
                type_ = "B" if width == 1 else f"V<{_type(width)}>"
                to = f"(*({type_}*)(s + {piece.offset + row * step}))"
                one = "~(B)0" if width == 1 else f"all<{_type(width)}>({value}ull)"
                out.append(f"{to} = {one};")
        return out


def _tables(memory: MemoryState) -> list[str]:
    out = []
    for number, (low, width) in enumerate(memory.pieces):
        values = [word >> low & (1 << width) - 1 for word in memory.init]
        values += [0] * (memory.depth - len(values))
        type_ = _type(max(width, 2))
        text = ", ".join(f"{value}ull" for value in values)
        out.append(f"static const {type_} table_{memory.cell}_{number}[] = {{{text}}};")
    return out


def emit(low: Lowered, plan: Schedule, layout: Layout) -> str:
    """Return the C++ of a design, to be compiled with ``engine.h``."""
    return _Emitter(low, plan, layout).text()
