# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ function of a cluster, and that of its writes at the clock edge."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from .clusters import Cluster, Plan, base
from .commits import Commit
from .expressions import BYTE, Expressions
from .layout import Layout, element_bytes, type_of
from .lower import Lowered, Read, Write
from .regions import needs_of

__all__ = ["ARGUMENTS", "Function", "Places"]

ARGUMENTS = "char* s, char* t, uint64_t* d, const B* live, Context* c, Parts parts"
_PLACE = re.compile(r"([@#])(\d+)\1")
Group = tuple[tuple[int, ...], str, int]
"""Clusters to be evaluated after a change, when what has changed is new, and a mask of outputs."""
NOW, NEXT, EDGE = "now", "next", "edge"
"""A value is new in this cycle, or in the next one; a register may have to be replaced at the edge."""


class Places(Protocol):
    """A design that is cut into clusters, and where they keep values.

    Attributes
    ----------
    low, plan, layout
        The design, its clusters, and its state in memory.
    kept : dict of int to int
        Where values are that clusters compute for others, by node.
    shadow : int
        Where registers have their next values until the clock edge.
    outs : dict of int to int
        Masks of the outputs that a node is part of.
    words, parts : int
        Words of marks of all clusters, and parts of a block.
    """

    low: Lowered
    plan: Plan
    layout: Layout
    kept: dict[int, int]
    shadow: int
    outs: dict[int, int]
    words: int
    parts: int

    def mark(self, row: int, clusters: Iterable[int], parts: str) -> str:
        """Return statements that mark clusters in a row of marks, for some parts."""
        ...


class Function(Expressions):
    """The function of a cluster: runs of statements for whole blocks, or part by part."""

    def __init__(self, design: Places, number: int) -> None:
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
        taken = (self.nodes[node].args for node in self.inside if self.nodes[node].op == "bit")
        self.bits_taken = Counter((word, at // 8) for word, at in taken)
        self.bytes_made: set[tuple[int, str]] = set()

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

    def group(self, node: int, when: str) -> int:
        """Return the number of those that have to know of a change of a node."""
        users = tuple(self.design.plan.users.get(node, ()))
        key = users, when, self.design.outs.get(node, 0)
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
        """Give a register its next value."""
        width = self.nodes[node].width
        in_place = node in self.design.plan.in_place
        type_ = ("W" if self.wide else "B") if width == 1 else f"V<{type_of(width)}>"
        self.line(f"const {type_} x{node} = {value};")
        group = self.group(node, NEXT if in_place else EDGE)
        self.line(self.differ(group, width, f"x{node}", self.state(node)))
        if in_place:
            self.line(self.put(self.state(node), f"x{node}"))
        else:
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
        op, _, args = self.nodes[node]
        text = self.bit_of_word(*args) if op == "bit" else self.expression(node)
        self.made[node] = len(self.runs) - 1
        self.line(f"{name} = {text};")
        if node in self.design.kept:
            slot = self.slot(node)
            width = self.nodes[node].width
            self.line(self.differ(self.group(node, NOW), width, name, slot))
            self.line(self.put(slot, name))

    def bit_of_word(self, word: int, at: int) -> str:
        width = self.nodes[word].width
        return self.bit_of(self.ref(word), width, at, f"y{word}", self.bits_taken[word, at // 8])

    def bit_of(self, text: str, width: int, at: int, name: str, taken: int) -> str:
        """Return a bit of an element, by way of its byte if enough bits of that are taken.

        Bytes begin with ``name``.
        """
        if taken < BYTE or element_bytes(width) == 1:
            return f"bit({text}, {at})"
        byte = f"{name}_{at // 8}"
        if (len(self.runs), byte) not in self.bytes_made:
            self.bytes_made.add((len(self.runs), byte))
            shifted = f"right<{at // 8 * 8}>({text})" if at > 7 else text
            self.line(f"const V<uint8_t> {byte} = cast<uint8_t>({shifted});")
        return f"bit({byte}, {at % 8})"

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
            group = self.groups.setdefault(((), NOW, self.design.outs[node]), len(self.groups))
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
            found = [t for t in what.targets if low <= t[1] < low + width]
            taken = Counter((first - low) // 8 for _, first, count in found if count == 1)
            for node, first, count in found:
                shift, old = first - low, self.state(node)
                if count == 1:
                    name, many = f"r{what.cell}_{number}", taken[shift // 8]
                    bit = self.bit_of(f"p{number}", size, shift, name, many)
                    self.take(node, f"({old} & ~m) | ({bit} & m)")
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
        for commit in self.cluster.commits:
            if not commit.writes:
                self.commit(commit)
        out = [f"HIDDEN void k{self.number}({ARGUMENTS}) {{", "parts = told(parts);"]
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

    def guards(self) -> Iterator[str]:
        self.wide = True
        for node, when in self.cluster.guards:
            text = self.ref(node)
            yield f"if (!(parts &= some({text if when else f'~{text}'}))) return;"
        self.uses.clear()

    def marks(self) -> Iterator[str]:
        for (users, when, outs), group in self.groups.items():
            if group in self.wide_sums:
                yield f"p{group} |= some(w{group}) & parts;"
            lines = self.design.mark(int(when != NOW), users, f"p{group}")
            if when == EDGE:
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
            to = f"(({type_}*)(s + {piece.offset}))[row * LANES + j * PART + k]"
            data = f"(({type_}*)&d{number})[k]"
            if parts == [(what.enable, 0, piece.width)]:
                yield f"{to} = {data};"
                continue
            masks = [
                f"((({type_})(e{number}_{part} >> k & 1) * {type_}({(1 << size) - 1}ull)) << {low})"
                for part, (_, low, size) in enumerate(parts)
            ]
            yield f"const {type_} w{number} = {' | '.join(masks)};"
            yield f"{to} = ({to} & ~w{number}) | ({data} & w{number});"
        yield "}"
        yield "}"
