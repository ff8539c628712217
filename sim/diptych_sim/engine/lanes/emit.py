# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ of a design: what a block of instances does in a cycle."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .expressions import Expressions
from .layout import Layout, element_bytes, type_of
from .lower import Lowered, MemoryState, Read, Register, Write
from .schedule import Commit, Schedule, Step, runs

__all__ = ["emit"]

STEPS = 400
"""Operations in a C++ function; compilers are slow with long ones."""
_PLACE = re.compile(r"([@#])(\d+)\1")


class _Emitter(Expressions):
    def __init__(self, low: Lowered, plan: Schedule, layout: Layout) -> None:
        super().__init__(low, layout)
        self.plan = plan
        # Functions hold runs; a run is computed for a whole block, or part by part.
        self.runs: list[tuple[int, bool, list[str]]] = []
        self.function = 0
        self.count = 0
        self.made: dict[int, int] = {}
        self.used: dict[int, set[int]] = {}

    # --- statements ---

    def open(self, wide: bool) -> None:
        """Begin a run."""
        if self.count >= STEPS:
            self.function += 1
            self.count = 0
        self.wide = wide
        self.runs.append((self.function, wide, []))

    def line(self, text: str) -> None:
        self.runs[-1][2].append(text)
        for node in self.uses:
            self.used.setdefault(node, set()).add(len(self.runs) - 1)
        self.uses.clear()
        self.count += 1

    def step(self, step: Step) -> None:
        if step.kind == "open":
            region = self.plan.regions[step.node]
            condition = self.ref(region.condition)
            self.line(f"if ({condition if region.when else f'~{condition}'}) {{")
        elif step.kind == "close":
            self.line("}")
        else:
            text = self.expression(step.node)
            self.made[step.node] = len(self.runs) - 1
            self.line(
                f"{'@' if self.wide else '#'}{step.node}{'@' if self.wide else '#'} = {text};"
            )

    def steps(self) -> None:
        for wide, items in runs(self.plan, self.graph, self.of_bits):
            self.open(wide)
            for item in items:
                if self.count >= STEPS:
                    self.open(wide)
                for step in item:
                    self.step(step)

    def asserts(self) -> None:
        self.open(False)
        for number, (node, _) in enumerate(self.low.asserts):
            if node:
                self.line(
                    f"if (B wrong = {self.ref(node)} & ((const B*)live)[j]) "
                    f"fail(c, {number}, LANES, j * PART + __builtin_ctzll(wrong));"
                )

    def outputs(self) -> None:
        for node, place in self.layout.nodes.items():
            if self.nodes[node].op != "source":
                self.open(place.size == 0)
                self.line(f"{self.state(node)} = {self.ref(node)};")

    def commits(self) -> None:
        for number, commit in enumerate(self.plan.commits):
            self.alias = self.plan.copies.get(number, {})
            bits = isinstance(commit.what, list) or (
                isinstance(commit.what, Register) and self.nodes[commit.what.node].width == 1
            )
            if not self.runs or self.wide != bits or self.count >= STEPS:
                self.open(bits)
            self.commit(commit)
        self.alias = {}

    def commit(self, commit: Commit) -> None:
        what = commit.what
        if isinstance(what, list):
            self.bits(what, commit.arms)
        elif isinstance(what, Register):
            self.register(what, commit.arms)
        elif isinstance(what, Read):
            self.read(what)
        else:
            self.write(what)

    def bits(self, what: Sequence[Register], arms: list[tuple[int, int]]) -> None:
        """Write registers of a bit that keep their values together."""
        conditions = [condition for condition, _ in arms]
        self.line(f"if ({' || '.join(f'some({self.ref(c)})' for c in conditions)}) {{")
        # One may take the value of another, so all are computed before any is written.
        for register in what:
            value = self.state(register.node)
            for condition, new in zip(conditions, self.plan.values[register.node], strict=True):
                mask = self.ref(condition)
                value = f"(({mask} & {self.ref(new)}) | (~{mask} & {value}))"
            self.line(f"const W x{register.node} = {value};")
        for register in what:
            self.line(f"{self.state(register.node)} = x{register.node};")
        self.line("}")

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
            type_ = type_of(size)
            self.line(f"V<{type_}> p{number};")
            if memory.shared:
                table = f"table_{memory.cell}_{number}"
                self.line(f"look_up_shared(m, {table}, {memory.depth}, at, p{number});")
            else:
                piece = self.layout.memories[memory.cell][number]
                words = f"(const {type_}*)(s + {piece.offset}) + j * PART"
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
                if type_of(count) != type_:
                    text = f"cast<{type_of(count)}>({text})"
                self.line(f"{to} = select(m, {text}, {to});")
        self.line("}")

    def write(self, what: Write) -> None:
        memory = self.low.memories[what.memory]
        if what.enable == 0:
            return
        self.line(f"if (B m = {self.ref(what.enable)}) {{")
        width = self.nodes[what.address].width
        self.line(f"const V<{type_of(width)}> at_ = {self.ref(what.address)};")
        self.line(f"const {type_of(width)}* at = (const {type_of(width)}*)&at_;")
        for number, (piece, (node, parts)) in enumerate(
            zip(self.layout.memories[memory.cell], what.data, strict=True)
        ):
            if piece.size == 0:
                self.line(f"const B d{number} = {self.ref(node)};")
            else:
                type_ = type_of(piece.width)
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
                to = f"((B*)(s + {piece.offset}))[row * G + j]"
                self.line(
                    f"if (e{number}_0 >> k & 1) {to} = ({to} & ~((B)1 << k)) | "
                    f"((d{number} >> k & 1) << k);"
                )
                continue
            type_ = type_of(piece.width)
            masks = [
                f"((({type_})(e{number}_{part} >> k & 1) * {type_}({(1 << size) - 1}ull)) << {low})"
                for part, (_, low, size) in enumerate(parts)
            ]
            self.line(f"const {type_} w{number} = {' | '.join(masks)};")
            to = f"(({type_}*)(s + {piece.offset}))[row * LANES + j * PART + k]"
            self.line(f"{to} = ({to} & ~w{number}) | ((({type_}*)&d{number})[k] & w{number});")
        self.line("}")
        self.line("}")

    # --- all of it ---

    def text(self) -> str:
        self.steps()
        self.asserts()
        self.outputs()
        self.commits()
        functions = {run: function for run, (function, _, _) in enumerate(self.runs)}
        # A value that one run uses lives in it; one that a function uses, in that; others are
        # kept in a block of their own.
        local = {n for n, users in self.used.items() if users == {self.made[n]}}
        inside = {
            n
            for n, users in self.used.items()
            if n not in local and {functions[u] for u in users} == {functions[self.made[n]]}
        }
        offsets: dict[int, int] = {}
        at = 0
        for node in sorted(self.used.keys() - local - inside, key=self.size_first):
            size = element_bytes(self.nodes[node].width)
            if size:
                at = -(-at // 64) * 64
            offsets[node] = at
            at += self.layout.step(size)

        def name(match: re.Match[str]) -> str:
            node = int(match[2])
            if node not in offsets and node not in inside:
                return f"n{node}"
            width = self.nodes[node].width
            type_ = "B" if width == 1 else f"V<{type_of(width)}>"
            if match[1] == "@":
                return f"(*(W*)(t + {offsets[node]}))" if node in offsets else f"n{node}"
            base = f"t + {offsets[node]}" if node in offsets else f"&n{node}"
            return f"(({type_}*)({base}))[j]"

        out = [
            f"#define LANES {self.layout.lanes}",
            '#include "lanes.h"',
            '#include "engine.h"',
        ]
        for memory in self.low.memories.values():
            if memory.shared:
                out += _tables(memory)
        by_run: dict[int, list[int]] = {}
        for node, run in self.made.items():
            by_run.setdefault(run, []).append(node)
        for function in range(self.function + 1):
            out.append(f"static void f{function}(char* s, char* t, const W* live, Context* c) {{")
            mine = [run for run in functions if functions[run] == function]
            for run in mine:
                for node in by_run.get(run, ()):
                    if node in inside:
                        width = self.nodes[node].width
                        out.append(
                            f"W n{node};" if width == 1 else f"V<{type_of(width)}> n{node}[G];"
                        )
            for run in mine:
                _, wide, lines = self.runs[run]
                if not lines:
                    continue
                out.append("{" if wide else "PARTS {")
                for node in by_run.get(run, ()):
                    if node not in inside and node not in offsets:
                        width = self.nodes[node].width
                        bits = "W" if wide else "B"
                        out.append(f"{bits if width == 1 else f'V<{type_of(width)}>'} n{node};")
                out += [_PLACE.sub(name, line) for line in lines]
                out.append("}")
            out.append("}")
        out.append('extern "C" {')
        out.append("void cycle(char* s, char* t, const W* live, Context* c) {")
        out += [f"f{index}(s, t, live, c);" for index in range(self.function + 1)]
        out.append("}")
        out.append("void reset_block(char* s) {")
        out += [self.initial(register) for register in self.low.registers if register.resets]
        out.append("}")
        out.append("void start_block(char* s) {")
        out += [self.initial(register) for register in self.low.registers if register.init]
        for memory in self.low.memories.values():
            if not memory.shared and any(memory.init):
                out += self.fill(memory)
        out.append("}")
        out.append(f"long scratch_bytes() {{ return {-(-at // 4096) * 4096 + 4096}; }}")
        out.append("}")
        return "\n".join(out) + "\n"

    def size_first(self, node: int) -> tuple[bool, int]:
        return self.nodes[node].width > 1, node

    def initial(self, register: Register) -> str:
        place = self.layout.nodes[register.node]
        return self.constant(place.offset, place.width, register.init)

    def constant(self, offset: int, width: int, value: int) -> str:
        if width == 1:
            return f"*(W*)(s + {offset}) = {'~W{}' if value else 'W{}'};"
        type_ = f"V<{type_of(width)}>"
        return f"PARTS (({type_}*)(s + {offset}))[j] = all<{type_of(width)}>({value}ull);"

    def fill(self, memory: MemoryState) -> list[str]:
        out = []
        for piece, (low, width) in zip(
            self.layout.memories[memory.cell], memory.pieces, strict=True
        ):
            for row, word in enumerate(memory.init):
                value = word >> low & (1 << width) - 1
                if value:
                    step = self.layout.step(piece.size)
                    out.append(self.constant(piece.offset + row * step, width, value))
        return out


def _tables(memory: MemoryState) -> list[str]:
    out = []
    for number, (low, width) in enumerate(memory.pieces):
        values = [word >> low & (1 << width) - 1 for word in memory.init]
        values += [0] * (memory.depth - len(values))
        type_ = type_of(max(width, 2))
        text = ", ".join(f"{value}ull" for value in values)
        out.append(f"static const {type_} table_{memory.cell}_{number}[] = {{{text}}};")
    return out


def emit(low: Lowered, plan: Schedule, layout: Layout) -> str:
    """Return the C++ of a design, to be compiled with ``lanes.h`` and ``engine.h``."""
    return _Emitter(low, plan, layout).text()
