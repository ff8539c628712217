# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ of a design: what a block of instances does in a cycle.

A block has its state ``s``; what clusters compute for others, and what registers take at the clock
edge, ``t``; and marks ``d``: clusters to be evaluated in this cycle, in the next, clusters that
change registers at the edge of this one, and outputs that have changed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from diptych_sim.engine.native_library import SEPARATOR

from .clusters import Cluster, Plan, base
from .commits import Commit
from .expressions import Expressions
from .graph import Graph
from .layout import PART, Layout, element_bytes, type_of
from .lower import Lowered, MemoryState, Read, Register, Write
from .regions import needs_of

__all__ = ["emit"]

UNITS = 4
"""Such parts, but one: more than most machines have cores."""
_PLACE = re.compile(r"([@#])(\d+)\1")
_ARGUMENTS = "char* s, char* t, uint64_t* d, const B* live, Context* c, Parts parts"
Group = tuple[tuple[int, ...], bool, int]
"""Clusters to be evaluated after a change, whether in the next cycle, and a mask of outputs."""


class _Function(Expressions):
    """The function of a cluster: runs of statements for whole blocks, or part by part."""

    def __init__(self, design: _Design, number: int) -> None:
        super().__init__(design.low, design.layout)
        self.design, self.number = design, number
        self.cluster: Cluster = design.plan.clusters[number]
        self.inside = set(self.cluster.nodes)
        self.runs: list[tuple[bool, list[str]]] = []
        self.made: dict[int, int] = {}
        self.used: dict[int, set[int]] = {}
        self.groups: dict[Group, int] = {}
        self.wide_sums: set[int] = set()
        self.part_sums: dict[int, dict[int, dict[str, str]]] = {}

    def open(self, wide: bool) -> None:
        if not self.runs or self.wide != wide:
            self.wide = wide
            self.runs.append((wide, []))

    def line(self, text: str) -> None:
        self.runs[-1][1].append(text)
        for node in self.uses & self.inside:
            self.used.setdefault(node, set()).add(len(self.runs) - 1)
        self.uses.clear()

    # --- changes ---

    def group(self, node: int, following: bool) -> int:
        """Return the number of those that have to know of a change of a node."""
        users = tuple(self.design.plan.users.get(node, ()))
        key = users, following, self.design.outs.get(node, 0)
        return self.groups.setdefault(key, len(self.groups))

    def differ(self, group: int, width: int, new: str, old: str) -> str:
        """Return the statement that notes a change, of a part or in some lanes of the block."""
        if self.wide:
            self.wide_sums.add(group)
            return f"w{group} |= {new} ^ {old};"
        sums = self.part_sums.setdefault(len(self.runs) - 1, {}).setdefault(group, {})
        if width > 1:
            sums[f"Z z{group} = {{}};"] = f"any(z{group})"
            return f"differ(z{group}, {new}, {old});"
        sums[f"B b{group} = 0;"] = f"b{group} != 0"
        return f"b{group} |= {new} ^ {old};"

    def put(self, to: str, what: str) -> str:
        """Return the statement that replaces what the parts that are evaluated have."""
        return f"keep({to}, parts, {what});" if self.wide else f"{to} = {what};"

    def shadow(self, node: int) -> str:
        """Return where a register's next value is kept."""
        place = self.layout.nodes[node]
        return self.at(place.offset, place.width, f"t + {self.design.shadow}")

    def take(self, node: int, value: str) -> None:
        """Give a register a value at the clock edge."""
        width = self.nodes[node].width
        type_ = ("W" if self.wide else "B") if width == 1 else f"V<{type_of(width)}>"
        self.line(f"const {type_} x{node} = {value};")
        self.line(self.differ(self.group(node, True), width, f"x{node}", self.state(node)))
        self.line(f"{self.shadow(node)} = x{node};")

    # --- statements ---

    def operations(self) -> None:
        left = list(self.cluster.nodes)
        waiting = set(left)
        wide = self.of_bits(left[0]) if left else True
        while left:
            rest = []
            for node in left:
                args = {base(self.graph, arg) for arg, _, _ in needs_of(self.graph, node)}
                if self.of_bits(node) == wide and not args & waiting:
                    self.operation(node)
                    waiting.discard(node)
                else:
                    rest.append(node)
            left, wide = rest, not wide

    def operation(self, node: int) -> None:
        self.open(self.of_bits(node))
        name = f"@{node}@" if self.wide else f"#{node}#"
        text = self.expression(node)
        self.made[node] = len(self.runs) - 1
        self.line(f"{name} = {text};")
        if node in self.design.kept:
            slot = self.slot(node)
            width = self.nodes[node].width
            self.line(self.differ(self.group(node, False), width, name, slot))
            self.line(self.put(slot, name))

    def slot(self, node: int) -> str:
        """Return where a value is kept for other clusters."""
        return self.at(self.design.kept[node], self.nodes[node].width, "t")

    def ref(self, node: int) -> str:
        kept = node in self.design.kept and node not in self.inside
        return self.slot(node) if kept else super().ref(node)

    def asserts(self) -> None:
        for number in self.cluster.asserts:
            self.open(False)
            node, _ = self.low.asserts[number]
            self.line(
                f"for (B wrong = {self.ref(node)} & live[j]; wrong; wrong &= wrong - 1) "
                f"fail(c, {number}, LANES, j * PART + __builtin_ctzll(wrong));"
            )

    def outputs(self) -> None:
        for node in self.cluster.outputs:
            width = self.nodes[node].width
            self.open(width == 1)
            group = self.groups.setdefault(((), False, self.design.outs[node]), len(self.groups))
            self.line(self.differ(group, width, self.ref(node), self.state(node)))
            self.line(self.put(self.state(node), self.ref(node)))

    def commit(self, commit: Commit) -> None:
        if commit.read is not None:
            self.open(False)
            self.read(commit.read)
            return
        for number, register in enumerate(commit.registers):
            width = self.nodes[register.node].width
            self.open(width == 1)
            if not commit.arms:
                text = self.ref(register.next) if width == 1 else self.cast(register.next, width)
            else:
                text = self.state(register.node)
            for condition, values in commit.arms:
                mask, value = self.ref(condition), values[number]
                if width == 1:
                    text = f"(({mask} & {self.ref(value)}) | (~{mask} & {text}))"
                else:
                    text = f"select({mask}, {self.cast(value, width)}, {text})"
            self.take(register.node, text)

    def read(self, what: Read) -> None:
        memory = self.low.memories[what.memory]
        self.line("{")
        self.line(f"const B m = {self.ref(what.enable)};")
        address = self.ref(what.address)
        constant = self.nodes[what.address].op == "const"
        self.line(f"const auto{'' if constant else '&'} at = {address};")
        for number, (low, width) in enumerate(memory.pieces):
            size = max(width, 2)
            type_ = type_of(size)
            self.line(f"V<{type_}> p{number};")
            if memory.shared:
                table = f"table_{memory.cell}_{number}"
                self.line(f"if (m) look_up_shared(m, {table}, {memory.depth}, at, p{number});")
            else:
                piece = self.layout.memories[memory.cell][number]
                words = f"(const {type_}*)(s + {piece.offset}) + j * PART"
                self.line(f"if (m) look_up(m, {words}, {memory.depth}, at, p{number});")
            for node, first, count in what.targets:
                if not low <= first < low + width:
                    continue
                shift, old = first - low, self.state(node)
                if count == 1:
                    self.take(node, f"({old} & ~m) | (bit(p{number}, {shift}) & m)")
                    continue
                text = f"right<{shift}>(p{number})" if shift else f"p{number}"
                if shift + count < 8 * element_bytes(size):
                    text = f"band<{type_}>({text}, {type_}({(1 << count) - 1}ull))"
                if type_of(count) != type_:
                    text = f"cast<{type_of(count)}>({text})"
                self.take(node, f"select(m, {text}, {old})")
        self.line("}")

    # --- all of it ---

    def text(self) -> list[str]:
        """Return the function, and that of the clock edge for writes."""
        self.operations()
        self.asserts()
        self.outputs()
        writes = [write for commit in self.cluster.commits for write in commit.writes]
        for commit in sorted(self.cluster.commits, key=self._parts_last):
            if not commit.writes:
                self.commit(commit)
        out = [f"HIDDEN void k{self.number}({_ARGUMENTS}) {{", "parts = told(parts);"]
        out += self.guards()
        if writes:
            out.append(self.design.mark(2, [self.number], "parts"))
        out += [f"Parts p{group} = 0;" for group in self.groups.values()]
        out += [f"W w{group} = {{}};" for group in sorted(self.wide_sums)]
        whole = {n for n, runs in self.used.items() if runs != {self.made[n]}}
        for node in self.cluster.nodes:
            if node in whole:
                width = self.nodes[node].width
                out.append(
                    f"W n{node} = {{}};" if width == 1 else f"V<{type_of(width)}> n{node}[G];"
                )

        def name(match: re.Match[str]) -> str:
            node = int(match[2])
            if match[1] == "@" or node not in whole:
                return f"n{node}"
            return f"((B*)&n{node})[j]" if self.nodes[node].width == 1 else f"n{node}[j]"

        for number, (wide, lines) in enumerate(self.runs):
            out.append("{" if wide else "PARTS {")
            for node in self.cluster.nodes:
                if self.made[node] == number and node not in whole:
                    width = self.nodes[node].width
                    bits = "W" if wide else "B"
                    out.append(f"{bits if width == 1 else f'V<{type_of(width)}>'} n{node};")
            sums = self.part_sums.get(number, {})
            out += itertools.chain(*sums.values())
            out += [_PLACE.sub(name, line) for line in lines]
            for group, found in sums.items():
                out.append(f"p{group} |= (Parts)({' | '.join(found.values())}) << j;")
            out.append("}")
        out += [*self.marks(), "}"]
        return [*out, *(self.writes(writes) if writes else ())]

    def _parts_last(self, commit: Commit) -> bool:
        return bool(commit.read) or any(self.nodes[n].width > 1 for n in commit.changes)

    def guards(self) -> Iterator[str]:
        self.wide = True
        for node, when in self.cluster.guards:
            text = self.ref(node)
            yield f"if (!(parts &= some({text if when else f'~{text}'}))) return;"
        self.uses.clear()

    def marks(self) -> Iterator[str]:
        for (users, following, outs), group in self.groups.items():
            if group in self.wide_sums:
                yield f"p{group} |= some(w{group}) & parts;"
            lines = self.design.mark(int(following), users, f"p{group}")
            if following:
                lines += self.design.mark(2, [self.number], f"p{group}")
            if outs:
                place = 4 * self.design.words * self.design.parts
                lines += f"mark(d + {place}, p{group}, {outs}ull);"
            yield f"if (p{group}) {{ {lines} }}"

    def writes(self, writes: Sequence[Write]) -> Iterator[str]:
        """Yield what happens at the clock edge."""
        yield f"HIDDEN void e{self.number}(char* s, char* t, uint64_t* d, Parts parts) {{"
        yield self.design.mark(1, self.design.plan.readers.get(writes[0].memory, ()), "parts")
        yield "PARTS {"
        self.wide = False
        for write in writes:
            yield from self.write(write)
        yield "}"
        yield "}"

    def write(self, what: Write) -> Iterator[str]:
        memory = self.low.memories[what.memory]
        yield f"if (B m = {self.ref(what.enable)}) {{"
        width = self.nodes[what.address].width
        yield f"const V<{type_of(width)}> at_ = {self.ref(what.address)};"
        yield f"const {type_of(width)}* at = (const {type_of(width)}*)&at_;"
        pieces = list(zip(self.layout.memories[memory.cell], what.data, strict=True))
        for number, (piece, (node, parts)) in enumerate(pieces):
            if piece.size == 0:
                yield f"const B d{number} = {self.ref(node)};"
            else:
                type_ = type_of(piece.width)
                yield f"const V<{type_}> d{number} = {self.cast(node, piece.width)};"
            for part, (enable, _, _) in enumerate(parts):
                yield f"const B e{number}_{part} = {self.ref(enable)};"
        yield "int k;"
        yield "EACH_SET(m, k) {"
        yield f"const size_t row = at[k]; if (row >= {memory.depth}) continue;"
        for number, (piece, (_, parts)) in enumerate(pieces):
            if piece.size == 0:
                to = f"((B*)(s + {piece.offset}))[row * G + j]"
                yield (
                    f"if (e{number}_0 >> k & 1) {to} = ({to} & ~((B)1 << k)) | "
                    f"((d{number} >> k & 1) << k);"
                )
                continue
            type_ = type_of(piece.width)
            masks = [
                f"((({type_})(e{number}_{part} >> k & 1) * {type_}({(1 << size) - 1}ull)) << {low})"
                for part, (_, low, size) in enumerate(parts)
            ]
            yield f"const {type_} w{number} = {' | '.join(masks)};"
            to = f"(({type_}*)(s + {piece.offset}))[row * LANES + j * PART + k]"
            yield f"{to} = ({to} & ~w{number}) | ((({type_}*)&d{number})[k] & w{number});"
        yield "}"
        yield "}"


class _Design:
    """All of a design, and where values are kept between clusters."""

    def __init__(self, low: Lowered, plan: Plan, layout: Layout) -> None:
        self.low, self.plan, self.layout = low, plan, layout
        self.graph: Graph = low.graph
        self.words = -(-len(plan.clusters) // 64)
        self.parts = layout.lanes // PART
        self.kept: dict[int, int] = {}
        at = 0
        nodes = self.graph.nodes
        maker = {node: k for k, cluster in enumerate(plan.clusters) for node in cluster.nodes}
        for node in sorted(
            maker.keys() & plan.users.keys(), key=lambda n: (maker[n], nodes[n].width > 1, n)
        ):
            size = element_bytes(nodes[node].width)
            if size:
                at = -(-at // 64) * 64
            self.kept[node] = at
            at += layout.step(size)
        self.shadow = -(-at // 64) * 64
        """Where registers' next values are: what ends the part of the state that changes."""
        self.size = self.shadow + layout.state_bytes
        self.outs: dict[int, int] = {}
        for number, driven in enumerate(low.driven().values()):
            for node in driven:
                self.outs[node] = self.outs.get(node, 0) | 1 << number

    def mark(self, row: int, clusters: Iterable[int], parts: str) -> str:
        """Return statements that mark clusters in a row of marks, for some parts."""
        masks: dict[int, int] = {}
        for number in clusters:
            masks[number // 64] = masks.get(number // 64, 0) | 1 << number % 64
        return "".join(
            f"mark(d + {(row * self.words + word) * self.parts}, {parts}, {mask}ull);"
            for word, mask in sorted(masks.items())
        )

    def set_of(self, clusters: Iterable[int]) -> str:
        """Return a bit for each cluster, in words."""
        masks = [0] * self.words
        for number in clusters:
            masks[number // 64] |= 1 << number % 64
        return "{" + ", ".join(f"{mask}ull" for mask in masks) + "}"

    def text(self) -> str:
        header = [
            f"#define LANES {self.layout.lanes}",
            '#include "lanes.h"',
            '#include "engine.h"',
        ]
        for memory in self.low.memories.values():
            if memory.shared:
                header += _tables(memory)
        count = len(self.plan.clusters)
        functions = ["\n".join(_Function(self, number).text()) for number in range(count)]
        out = []
        most = sum(map(len, functions)) // UNITS + 1
        for unit in range(UNITS):
            ends = itertools.accumulate(map(len, functions))
            mine = [f for f, end in zip(functions, ends, strict=True) if end // most == unit]
            out += [*header, *mine, SEPARATOR]
        out += header
        for number, cluster in enumerate(self.plan.clusters):
            out.append(f"HIDDEN void k{number}({_ARGUMENTS});")
            if any(commit.writes for commit in cluster.commits):
                out.append(f"HIDDEN void e{number}(char* s, char* t, uint64_t* d, Parts parts);")
        out.append(f"static const long WORDS = {self.words}, COUNT = {count};")
        out.append(f"static void (*const clusters[])({_ARGUMENTS}) = {{")
        out += [f"k{number}," for number in range(count)]
        pieces, edges = self.edges()
        out += ["};", "static const Piece pieces[] = {", *pieces, "{0, 0, 0}};"]
        out += ["static const Edge edges[] = {", *edges, "};"]
        out.append(f"static const uint64_t counting[] = {self.set_of(self.plan.counting)};")
        out.append(f"static const uint64_t inputs[][{self.words}] = {{")
        for parts in self.low.inputs.values():
            users = {user for node, _, _ in parts for user in self.plan.users.get(node, ())}
            out.append(f"{self.set_of(users)},")
        out += ["};", f"static const long SHADOW = {self.shadow};", '#include "block.h"']
        out.append('extern "C" {')
        out.append("void reset_block(char* s) {\nconst Parts parts = EVERY;")
        out += [self.initial(register) for register in self.low.registers if register.resets]
        out.append("}")
        out.append("void start_block(char* s) {\nconst Parts parts = EVERY;")
        out += [self.initial(register) for register in self.low.registers if register.init]
        for memory in self.low.memories.values():
            if not memory.shared and any(memory.init):
                out += self.fill(memory)
        out.append("}")
        out.append(f"long scratch_bytes() {{ return {-(-self.size // 4096) * 4096}; }}")
        out.append("}")
        return "\n".join(out) + "\n"

    def edges(self) -> tuple[list[str], list[str]]:
        """Return elements that clusters change, and what each cluster does at the clock edge."""
        pieces: list[str] = []
        edges: list[str] = []
        for number, cluster in enumerate(self.plan.clusters):
            if any(commit.writes for commit in cluster.commits):
                edges.append(f"{{e{number}, 0, 0, 0, 0, 0}},")
                continue
            places = [self.layout.nodes[node] for node in cluster.changes]
            low = min((p.offset for p in places), default=0)
            bits, high = (
                max((p.offset + self.layout.step(p.size) for p in some), default=low)
                for some in ([p for p in places if not p.size], places)
            )
            first = len(pieces)
            pieces += [f"{{{p.offset}, {p.size}, {p.width}}}," for p in places if p.size]
            edges.append(f"{{0, {low}, {bits}, {high}, {first}, {len(pieces)}}},")
        return pieces, edges

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
        pieces = zip(self.layout.memories[memory.cell], memory.pieces, strict=True)
        for (piece, (low, width)), (row, word) in itertools.product(pieces, enumerate(memory.init)):
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


def emit(low: Lowered, plan: Plan, layout: Layout) -> str:
    """Return the C++ of a design, to be compiled with ``lanes.h``, ``engine.h`` and ``block.h``.

    Parts between lines of :data:`SEPARATOR` may be compiled apart.
    """
    return _Design(low, plan, layout).text()
