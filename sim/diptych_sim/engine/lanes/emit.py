# SPDX-License-Identifier: BSD-2-Clause
"""Writes the C++ of a design: what a block of instances does in a cycle.

A block has its state ``s``; what clusters compute for others, and what some registers take at the clock
edge, ``t``; and marks ``d``: clusters to be evaluated in this cycle, in the next, clusters that
change registers at the edge of this one, and outputs that have changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from diptych_sim.engine.native_library import SEPARATOR

from .clusters import Plan
from .functions import ARGUMENTS, Function
from .graph import Graph
from .layout import PART, Layout, element_bytes, type_of
from .lower import Lowered, MemoryState, Register

__all__ = ["emit"]

UNITS = 4
"""Such parts, but one: more than most machines have cores."""
VECTOR = 64
"""Bytes of the longest vector."""


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
        """Where registers have their next values until the clock edge: the first part of the state."""
        aside = [layout.nodes[n] for k in range(len(plan.clusters)) for n in plan.aside(k)]
        ends = (place.offset + layout.step(place.size) for place in aside)
        self.size = self.shadow + max(ends, default=0) + VECTOR
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
        functions = ["\n".join(Function(self, number).text()) for number in range(count)]
        out = []
        most = sum(map(len, functions)) // UNITS + 1
        for unit in range(UNITS):
            ends = itertools.accumulate(map(len, functions))
            mine = [f for f, end in zip(functions, ends, strict=True) if end // most == unit]
            out += [*header, *mine, SEPARATOR]
        out += header
        for number, cluster in enumerate(self.plan.clusters):
            out.append(f"HIDDEN void k{number}({ARGUMENTS});")
            if any(commit.writes for commit in cluster.commits):
                out.append(f"HIDDEN void e{number}(char* s, char* t, uint64_t* d, Parts parts);")
        out.append(f"static const long WORDS = {self.words}, COUNT = {count};")
        out.append(f"static void (*const clusters[])({ARGUMENTS}) = {{")
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
            places = [self.layout.nodes[node] for node in self.plan.aside(number)]
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
