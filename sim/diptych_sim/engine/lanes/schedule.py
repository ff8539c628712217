# SPDX-License-Identifier: BSD-2-Clause
"""Orders operations, and finds those that are needed only while some condition holds.

What feeds only one arm of a multiplexer, the data of a register with an enable, or the address of
a disabled memory port, is of no use in a cycle in which no lane of a block wants it. Such
operations form regions, which are skipped together.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .graph import Graph
from .lower import Lowered, Read, Register, Write

__all__ = ["Commit", "Region", "Schedule", "Step", "schedule"]

WORTH = 12
"""Cost, in vector operations, of the smallest region."""
Need = tuple[int, int | None, bool]
"""A node that an operation uses, and the condition without which it does not (or the inverse)."""


@dataclass
class Region:
    """Operations that are needed only where a bit is set (or clear), inside a parent."""

    parent: int
    condition: int
    when: bool
    depth: int
    cost: int = 0


@dataclass
class Commit:
    """A change at the clock edge: of a register, by a memory read or by a memory write.

    Registers of a bit that keep their values together are one.
    """

    what: Register | list[Register] | Read | Write
    arms: list[tuple[int, int]]
    """Of registers that keep their values otherwise: conditions and values, last one wins."""
    needs: list[Need]
    reads: set[int]
    writes: set[int]


@dataclass
class Step:
    """An operation, or the opening or closing of a region."""

    kind: str
    node: int = -1


@dataclass
class Schedule:
    """Steps before the clock edge, and commits in an order in which none spoils another."""

    steps: list[Step]
    commits: list[Commit]
    copies: dict[int, dict[int, int]]
    """For commits by number: what to read instead of registers that have changed before."""
    regions: list[Region]
    values: dict[int, list[int]]
    """Of registers in groups: their value for each arm."""


def _cost(width: int, op: str) -> int:
    if width == 1 and op not in ("eq", "ult", "slt", "any"):
        return 1
    size = 1 if width <= 8 else 2 if width <= 16 else 4 if width <= 32 else 8
    return size * {"mul": 3, "cat": 3, "aread": 8, "shl": 2, "shr": 2, "sar": 3}.get(op, 1)


def needs_of(graph: Graph, node: int) -> list[Need]:
    """Return what an operation uses."""
    op, _, args = graph.nodes[node]
    if op in ("const", "source", "copy"):
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


def _arms(graph: Graph, register: Register) -> tuple[list[tuple[int, int]], bool]:
    """Return conditions and values of a register's data, and whether it keeps its value otherwise.

    The last condition that holds wins.
    """
    arms: list[tuple[int, int]] = []
    node = register.next
    while graph.nodes[node].op == "mux":
        condition, value, node = graph.nodes[node].args
        arms.append((condition, value))
    arms.reverse()
    own = any(register.node in arm for arm in arms)
    return arms, node == register.node and not own


def _commits(low: Lowered, values: dict[int, list[int]]) -> list[Commit]:
    graph = low.graph
    out = []
    groups: dict[tuple[int, ...], list[tuple[Register, list[int]]]] = {}
    for register in low.registers:
        if register.next == register.node:
            continue
        arms, keeps = _arms(graph, register)
        needs: list[Need] = [(register.next, None, True)]
        if keeps and graph.nodes[register.node].width == 1:
            groups.setdefault(tuple(condition for condition, _ in arms), []).append(
                (register, [value for _, value in arms])
            )
            continue
        if keeps:
            needs = [(condition, None, True) for condition, _ in arms]
            needs += [(value, condition, True) for condition, value in arms]
        else:
            arms = []
        out.append(_commit(graph, register, arms, needs, {register.node}))
    out += _grouped(graph, groups, values)
    for read in low.reads:
        needs = [(read.enable, None, True), (read.address, read.enable, True)]
        out.append(_commit(graph, read, [], needs, {node for node, _, _ in read.targets}))
    for write in low.writes:
        needs = [(write.enable, None, True), (write.address, write.enable, True)]
        for node, parts in write.data:
            needs.append((node, write.enable, True))
            needs += [(enable, write.enable, True) for enable, _, _ in parts]
        out.append(_commit(graph, write, [], needs, set()))
    return out


GROUP = 3
"""Registers of a bit that are worth a branch."""


def _grouped(
    graph: Graph,
    groups: dict[tuple[int, ...], list[tuple[Register, list[int]]]],
    values: dict[int, list[int]],
) -> list[Commit]:
    """Return commits of registers of a bit, those with equal conditions together."""
    out = []
    for conditions, members in groups.items():
        if len(members) < GROUP:
            for register, _ in members:
                needs: list[Need] = [(register.next, None, True)]
                out.append(_commit(graph, register, [], needs, {register.node}))
            continue
        needs = [(condition, None, True) for condition in conditions]
        for register, taken in members:
            values[register.node] = taken
            needs += [(v, c, True) for c, v in zip(conditions, taken, strict=True)]
        registers = [register for register, _ in members]
        arms = [(condition, -1) for condition in conditions]
        out.append(_commit(graph, registers, arms, needs, {r.node for r in registers}))
    return out


def _commit(
    graph: Graph,
    what: Register | list[Register] | Read | Write,
    arms: list[tuple[int, int]],
    needs: list[Need],
    writes: set[int],
) -> Commit:
    reads = {node for node, _, _ in needs if graph.nodes[node].op == "source"} - writes
    return Commit(what, arms, needs, reads, writes)


def _order(commits: list[Commit]) -> tuple[list[Commit], set[tuple[int, int]]]:
    """Put what reads a register before what changes it; return also what must be copied."""
    writer = {node: n for n, commit in enumerate(commits) for node in commit.writes}
    memory_reads: dict[int, list[int]] = {}
    for n, commit in enumerate(commits):
        if isinstance(commit.what, Read):
            memory_reads.setdefault(commit.what.memory, []).append(n)
    before: list[set[int]] = [set() for _ in commits]
    for n, commit in enumerate(commits):
        for node in commit.reads:
            if node in writer:
                before[writer[node]].add(n)
        if isinstance(commit.what, Write):
            before[n] |= set(memory_reads.get(commit.what.memory, ()))
    done: list[int] = []
    copies: set[tuple[int, int]] = set()
    left = dict(enumerate(before))
    while left:
        ready = [n for n, wait in left.items() if not wait]
        if not ready:
            # A ring: let one go first, and keep what it changes for those that still read it.
            n = min(left, key=lambda item: len(left[item]))
            copies |= {
                (reader, node)
                for reader in left[n]
                for node in commits[reader].reads & commits[n].writes
            }
            ready = [n]
        for n in ready:
            del left[n]
            done.append(n)
        for wait in left.values():
            wait.difference_update(ready)
    place = {n: at for at, n in enumerate(done)}
    return [commits[n] for n in done], {(place[r], node) for r, node in copies}


class _Scheduler:
    def __init__(self, low: Lowered) -> None:
        self.graph = low.graph
        self.values: dict[int, list[int]] = {}
        self.commits, copies = _order(_commits(low, self.values))
        self.copies: dict[int, dict[int, int]] = {}
        for number, node in copies:
            copy = self.graph.add("copy", self.graph.nodes[node].width, node)
            self.copies.setdefault(number, {})[node] = copy
        self.always = [node for node, _ in low.asserts]
        self.always += {net >> 6 for nets in low.outputs.values() for net in nets}
        self.regions = [Region(-1, 1, True, 0)]
        self._index: dict[tuple[int, int, bool], int] = {}
        self.place: dict[int, int] = {}
        self.steps: list[Step] = []
        self.done: set[int] = set()

    # --- regions ---

    def inside(self, parent: int, condition: int | None, when: bool) -> int:
        if condition is None or condition < 2:
            return parent
        key = (parent, condition, when)
        if key not in self._index:
            self._index[key] = len(self.regions)
            depth = self.regions[parent].depth + 1
            self.regions.append(Region(parent, condition, when, depth))
        return self._index[key]

    def _common(self, a: int, b: int) -> int:
        while a != b:
            if self.regions[a].depth < self.regions[b].depth:
                a, b = b, a
            a = self.regions[a].parent
        return a

    def _use(self, node: int, region: int) -> None:
        known = self.place.get(node)
        self.place[node] = region if known is None else self._common(known, region)

    def locate(self) -> None:
        """Find the region of every node, and dissolve regions that are too small."""
        for commit in self.commits:
            for node, condition, when in commit.needs:
                self._use(node, self.inside(0, condition, when))
        for node in self.always:
            self._use(node, 0)
        for node in range(len(self.graph.nodes) - 1, -1, -1):
            region = self.place.get(node)
            if region is not None:
                for arg, condition, when in needs_of(self.graph, node):
                    self._use(arg, self.inside(region, condition, when))
        for node, region in self.place.items():
            kind = self.graph.nodes[node]
            if kind.op not in ("const", "source"):
                self.regions[region].cost += _cost(kind.width, kind.op)
        target = list(range(len(self.regions)))
        for n in sorted(range(1, len(target)), key=lambda n: -self.regions[n].depth):
            region = self.regions[n]
            self.regions[region.parent].cost += region.cost
            if region.cost < WORTH:
                target[n] = region.parent

        def final(n: int) -> int:
            while target[n] != n:
                n = target[n]
            return n

        self.final = [final(n) for n in range(len(target))]
        for n, region in enumerate(self.regions):
            if n:
                region.parent = self.final[region.parent]
        self.place = {node: self.final[region] for node, region in self.place.items()}

    def _within(self, region: int, outer: int) -> bool:
        while region != outer and region > 0:
            region = self.regions[region].parent
        return region == outer

    # --- order ---

    def emit(self, node: int, here: int) -> None:
        if node in self.done or self.graph.nodes[node].op in ("const", "source"):
            return
        needs = needs_of(self.graph, node)
        for arg, condition, _ in needs:
            if condition is None:
                self.emit(arg, here)
        for arg, condition, when in needs:
            if condition is not None:
                self.want(arg, condition, when, here)
        self.done.add(node)
        self.steps.append(Step("node", node))

    def want(self, node: int, condition: int, when: bool, here: int) -> None:
        """Emit a node that is used under a condition."""
        if node in self.done or self.graph.nodes[node].op in ("const", "source"):
            return
        place = self.place[node]
        key = (here, condition, when)
        region = self._find(key)
        if region is None or not self._within(place, region) or region == here:
            self.emit(node, here)
            return
        for outer in self._outside(node, region):
            self.emit(outer, here)
        if node in self.done:
            return
        self.steps.append(Step("open", region))
        self.emit(node, region)
        self.steps.append(Step("close", region))

    def _find(self, key: tuple[int, int, bool]) -> int | None:
        index = self._index.get(key)
        return None if index is None else self.final[index]

    def _outside(self, root: int, region: int) -> list[int]:
        """Return what the nodes of a region need from outside, before it can be opened."""
        found: list[int] = []
        seen = set()
        stack = [root]
        while stack:
            node = stack.pop()
            if node in seen or node in self.done:
                continue
            seen.add(node)
            if self.graph.nodes[node].op in ("const", "source"):
                continue
            if not self._within(self.place[node], region):
                found.append(node)
                continue
            stack += [arg for arg, _, _ in needs_of(self.graph, node)]
        return sorted(found)


def schedule(low: Lowered) -> Schedule:
    """Order the operations of a design."""
    work = _Scheduler(low)
    work.locate()
    for commit in work.commits:
        for node, condition, _ in commit.needs:
            if condition is None:
                work.emit(node, 0)
        for node, condition, when in commit.needs:
            if condition is not None:
                work.want(node, condition, when, 0)
    for node in work.always:
        work.emit(node, 0)
    for copies in work.copies.values():
        for copy in copies.values():
            work.emit(copy, 0)
    return Schedule(work.steps, work.commits, work.copies, work.regions, work.values)


def _region(item: list[Step]) -> int:
    return item[0].node if item[0].kind == "open" else -1


def _next(ready: list[int], items: list[list[Step]], out: list[list[Step]]) -> int:
    """Take an item that is ready: of the last one's region, if there is one, or the first."""
    region = _region(out[-1]) if out else -1
    if region >= 0:
        for n in ready:
            if _region(items[n]) == region:
                ready.remove(n)
                heapq.heapify(ready)
                return n
    return heapq.heappop(ready)


def runs(
    plan: Schedule, graph: Graph, of_bits: Callable[[int], bool]
) -> Iterator[tuple[bool, list[list[Step]]]]:
    """Yield the steps in runs: of operations on bits alone (True), and of others in turn.

    A region stays together, with the others. What can go into the current run goes before what
    has to wait for the next.
    """
    items: list[list[Step]] = []
    depth = 0
    for step in plan.steps:
        if depth == 0:
            items.append([])
        items[-1].append(step)
        depth += (step.kind == "open") - (step.kind == "close")
    maker = {step.node: n for n, item in enumerate(items) for step in item if step.kind == "node"}
    waits: list[set[int]] = []
    users: list[list[int]] = [[] for _ in items]
    for n, item in enumerate(items):
        wait = set()
        for step in item:
            if step.kind == "node":
                args = [arg for arg, _, _ in needs_of(graph, step.node)]
            else:
                args = [plan.regions[step.node].condition]
            wait |= {maker[arg] for arg in args if arg in maker} - {n}
        waits.append(wait)
        for other in wait:
            users[other].append(n)
    bits = [len(item) == 1 and of_bits(item[0].node) for item in items]
    ready: dict[bool, list[int]] = {True: [], False: []}
    for n, wait in enumerate(waits):
        if not wait:
            heapq.heappush(ready[bits[n]], n)
    kind = True
    while ready[True] or ready[False]:
        out: list[list[Step]] = []
        while ready[kind]:
            n = _next(ready[kind], items, out)
            if out and _region(out[-1]) == _region(items[n]) >= 0:
                out[-1] = [*out[-1][:-1], *items[n][1:]]  # a region that goes on
            else:
                out.append(items[n])
            for user in users[n]:
                waits[user].discard(n)
                if not waits[user]:
                    heapq.heappush(ready[bits[user]], user)
        if out:
            yield kind, out
        kind = not kind
