# SPDX-License-Identifier: BSD-2-Clause
"""Finds operations that are needed only while some condition holds.

What feeds only one arm of a multiplexer, the data of a register with an enable, or the address of
a disabled memory port, is of no use in a cycle in which no lane of a block wants it. Such
operations form regions, which are skipped together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .commits import Commit, Need
from .graph import Graph

__all__ = ["Regions", "cost_of", "needs_of"]

WORTH = 24
"""Cost, in vector operations, of the smallest region."""


@dataclass
class _Region:
    """Operations that are needed only where a bit is set (or clear), inside a parent."""

    parent: int
    condition: int
    when: bool
    depth: int
    cost: int = 0


def cost_of(graph: Graph, node: int) -> int:
    """Return the vector operations that a node takes, about, for 256 lanes."""
    op, width, _ = graph.nodes[node]
    if width == 1 and op not in ("eq", "ult", "slt", "any", "bit"):
        return 1
    size = 4 if width <= 8 else 8 if width <= 16 else 16 if width <= 32 else 32
    return size * {"mul": 3, "cat": 3, "aread": 8, "shl": 2, "shr": 2, "sar": 3}.get(op, 1)


def needs_of(graph: Graph, node: int) -> list[Need]:
    """Return what an operation uses."""
    op, _, args = graph.nodes[node]
    if op in ("const", "source"):
        return []
    if op == "mux" and graph.nodes[node].width > 1:
        return [(args[0], None, True), (args[1], args[0], True), (args[2], args[0], False)]
    if op == "bit":
        return [(args[0], None, True)]
    if op == "cat":
        return [(piece[0], None, True) for piece in args]
    if op == "aread":
        return [(bit, None, True) for bit in args[2]]
    return [(arg, None, True) for arg in args]


class Regions:
    """The region of every operation and commit; region 0 is always needed.

    Parameters
    ----------
    graph : Graph
        The operations.
    commits : sequence of Commit
        What they are for.
    always : sequence of int
        Nodes that are needed in any case.
    """

    def __init__(self, graph: Graph, commits: Sequence[Commit], always: Sequence[int]) -> None:
        self._graph = graph
        self._regions = [_Region(-1, 1, True, 0)]
        self._index: dict[tuple[int, int, bool], int] = {}
        self._place: dict[int, int] = {}
        places = []
        for commit in commits:
            for node, condition, when in commit.needs:
                self._use(node, self._inside(0, condition, when))
            self._use(commit.guard, 0)
            place = self._inside(0, commit.guard, True)
            self._regions[place].cost += len(commit.changes) or WORTH
            places.append(place)
        for node in always:
            self._use(node, 0)
        for node in range(len(graph.nodes) - 1, -1, -1):
            region = self._place.get(node)
            if region is not None:
                for arg, condition, when in needs_of(graph, node):
                    self._use(arg, self._inside(region, condition, when))
        self._dissolve()
        self.nodes = {node: self._final[region] for node, region in self._place.items()}
        self.commits = [self._final[place] for place in places]

    def guards(self, region: int) -> list[tuple[int, bool]]:
        """Return the conditions of a region, the outermost first, each with what it must be."""
        out = []
        while region > 0:
            found = self._regions[region]
            out.append((found.condition, found.when))
            region = found.parent
        return out[::-1]

    def _inside(self, parent: int, condition: int | None, when: bool) -> int:
        if condition is None or condition < 2:
            return parent
        key = (parent, condition, when)
        if key not in self._index:
            self._index[key] = len(self._regions)
            depth = self._regions[parent].depth + 1
            self._regions.append(_Region(parent, condition, when, depth))
        return self._index[key]

    def _common(self, a: int, b: int) -> int:
        while a != b:
            if self._regions[a].depth < self._regions[b].depth:
                a, b = b, a
            a = self._regions[a].parent
        return a

    def _use(self, node: int, region: int) -> None:
        known = self._place.get(node)
        self._place[node] = region if known is None else self._common(known, region)

    def _dissolve(self) -> None:
        """Dissolve regions that are too small into their parents."""
        for node, region in self._place.items():
            if self._graph.nodes[node].op not in ("const", "source"):
                self._regions[region].cost += cost_of(self._graph, node)
        target = list(range(len(self._regions)))
        for n in sorted(range(1, len(target)), key=lambda n: -self._regions[n].depth):
            region = self._regions[n]
            self._regions[region.parent].cost += region.cost
            if region.cost < WORTH:
                target[n] = region.parent

        def final(n: int) -> int:
            while target[n] != n:
                n = target[n]
            return n

        self._final = [final(n) for n in range(len(target))]
        for n, region in enumerate(self._regions):
            if n:
                region.parent = self._final[region.parent]
