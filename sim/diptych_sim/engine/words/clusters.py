# SPDX-License-Identifier: BSD-2-Clause
"""Cuts a netlist into clusters: cells that are evaluated together, when something they use changes.

Clusters are in an order in which none uses what a later one computes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from diptych_sim.engine.cluster_cost import ClusterCost

from .cells import Cell, Words
from .order import in_order, narrow, producers

__all__ = ["Cluster", "Plan", "plan"]

CHANGES = 0.05
"""How often a value changes, about: a share of all cycles."""
OVERHEAD = 12
"""Cost, in operations, of evaluating a cluster at all."""
LIMIT = 300
"""Cost above which nothing more is put into a cluster."""
_COST = ClusterCost(changes=CHANGES, overhead=OVERHEAD, limit=LIMIT)


@dataclass
class Cluster:
    """What is evaluated together: ``cells`` in order, and what it uses of others."""

    cells: list[int] = field(default_factory=list)
    made: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    cost: float = 0

    def gain(self, used: set[int], cost: float, alone: float) -> float:
        """Return what is saved when something more is put into it."""
        both = len(self.used | used - self.made)
        return _COST.saved((len(self.used), self.cost), (both, self.cost + cost), alone)


@dataclass
class Plan:
    """Clusters, and who uses what.

    Attributes
    ----------
    clusters : list of Cluster
        In order.
    users : dict of int to list of int
        Clusters that use a cell which they do not compute, also a memory; of what belongs to a
        group, those that use any of it: by what computes its outputs, or its next state.
    outs, steps : dict of int to int
        Cells that stand for what computes the outputs of a group, and its next state.
    in_place : set of int
        Groups whose next state comes after all that use the state before: it can replace it.
    """

    clusters: list[Cluster]
    users: dict[int, list[int]]
    outs: dict[int, int]
    steps: dict[int, int]
    in_place: set[int]


def _cost(cell: Cell) -> float:
    words = -(-max(cell.width, *(len(nets) for nets in cell.inputs), 1) // 64)
    return (1 + len(cell.starts)) * words


def _add_group_cells(whole: Words) -> tuple[dict[int, int], dict[int, int]]:
    """Add cells that stand for the outputs and the next state of each group."""
    outs, steps = {}, {}
    for number, group in enumerate(whole.groups):
        for kind, table in (("outs", outs), ("step", steps)):
            needed = group.outputs_need(whole, number) if kind == "outs" else None
            inputs = [
                nets
                for places in group.inputs
                for cell, nets in places.items()
                if needed is None or cell in needed
            ]
            whole.cells.append(Cell(kind, 0, inputs, place=(number, 0, 0)))
            table[number] = len(whole.cells) - 1
    return outs, steps


class _Planner:
    def __init__(self, whole: Words) -> None:
        self.whole, self.cells = whole, whole.cells
        self.outs, self.steps = _add_group_cells(whole)
        computed = ("none", "memory", "input", "lane")
        nodes = [n for n, cell in enumerate(self.cells) if cell.kind not in computed]
        self.waits = {n: producers(whole, self.cells[n], self.outs) for n in nodes}
        self._leave_out_unused()
        for n, others in self.waits.items():
            others.discard(n)

    def _leave_out_unused(self) -> None:
        used: set[int] = set()
        stack = [
            n for n in self.waits if self.cells[n].sink or self.cells[n].kind in ("outs", "step")
        ]
        while stack:
            n = stack.pop()
            if n not in used:
                used.add(n)
                stack += self.waits[n]
        self.waits = {n: others for n, others in self.waits.items() if n in used}

    def uses(self, n: int) -> set[int]:
        """Return what a cell uses: cells, memories, and the outputs and registers of groups."""
        cell = self.cells[n]
        out = set()
        for index in {net >> 16 for nets in cell.inputs for net in nets if net > 1}:
            other = self.cells[index]
            if other.kind == "lane":
                group, _, inner = other.place
                held = self.whole.groups[group].body.cells[inner].held
                out.add(self.steps[group] if held else self.outs[group])
            else:
                out.add(index)
        if cell.kind in ("aread", "sread"):
            out.add(cell.memory)
        if cell.kind in ("outs", "step"):
            out.add(self.steps[cell.place[0]])
        return out

    def run(self) -> Plan:
        root = self._roots()
        in_place = self._delay_steps(root)
        order = in_order(self.waits, self.cells)
        narrow(self.whole, order, set())
        trees: dict[int, list[int]] = defaultdict(list)
        for n in order:
            trees[root[n]].append(n)
        clusters = self._join(order, root, trees)
        of_cell: dict[int, list[int]] = defaultdict(list)
        for number, cluster in enumerate(clusters):
            for index in sorted(cluster.used):
                of_cell[index].append(number)
        return Plan(clusters, of_cell, self.outs, self.steps, in_place)

    def _roots(self) -> dict[int, int]:
        """Return for each cell the top of its tree: cells below a top are used only in the tree."""
        users: dict[int, list[int]] = defaultdict(list)
        for n, others in self.waits.items():
            for other in others:
                users[other].append(n)
        root: dict[int, int] = {}
        for n in reversed(in_order(self.waits, self.cells)):
            alone = len(users[n]) == 1 and self.cells[n].kind != "outs"
            alone = alone and self.cells[users[n][0]].kind not in ("outs", "step")
            root[n] = root[users[n][0]] if alone else n
        return root

    def _delay_steps(self, root: dict[int, int]) -> set[int]:
        """Have the next state of groups wait for all that uses their state; return those that can."""
        group_of = {step: group for group, step in self.steps.items() if step in self.waits}
        readers: dict[int, set[int]] = {step: set() for step in group_of}
        for n in self.waits:
            for step in self.uses(n) & readers.keys() - {n}:
                readers[step].add(root[n])
        out = set()
        for step in sorted(readers, key=lambda step: -len(self.whole.groups[group_of[step]].paths)):
            # Only steps that wait can make a circle: nothing else waits for a step.
            if not self._waits_for(readers[step] & readers.keys(), step):
                self.waits[step] |= readers[step]
                out.add(group_of[step])
        return out

    def _waits_for(self, cells: set[int], other: int) -> bool:
        """Return whether any of some steps waits for another, maybe by way of further ones."""
        seen, stack = set(cells), list(cells)
        while stack:
            new = {n for n in self.waits[stack.pop()] if self.cells[n].kind == "step"} - seen
            seen |= new
            stack += new
        return other in seen

    def _join(
        self, order: list[int], root: dict[int, int], trees: dict[int, list[int]]
    ) -> list[Cluster]:
        """Put each tree where it costs least, after what it uses."""
        out: list[Cluster] = []
        home: dict[int, int] = {}
        near: dict[int, set[int]] = defaultdict(set)
        for top in (n for n in order if root[n] == n):
            members = trees[top]
            # What keeps a state uses what it makes.
            made = {n for n in members if not self.cells[n].sink and self.cells[n].kind != "step"}
            used = set().union(*(self.uses(n) for n in members)) - made
            cost = sum(_cost(self.cells[n]) for n in members)
            waits = {root[other] for n in members for other in self.waits[n]} - {top}
            first = max((home[other] for other in waits), default=0)
            choice = len(out)
            if self.cells[top].kind not in ("outs", "step"):
                alone, best = _COST.expected(len(used), cost), 0.0
                for number in sorted({c for cell in used for c in near[cell] if c >= first}):
                    gain = out[number].gain(used, cost, alone)
                    if gain > best:
                        best, choice = gain, number
            if choice == len(out):
                out.append(Cluster())
            cluster = out[choice]
            if self.cells[top].kind in ("outs", "step"):
                cluster.cost = LIMIT
            cluster.cells += members
            cluster.used |= used - cluster.made
            cluster.made |= made
            cluster.cost += cost
            home[top] = choice
            for cell in used | made:
                near[cell].add(choice)
        for cluster in out:
            cluster.used -= cluster.made
        return out


def plan(whole: Words) -> Plan:
    """Cut a netlist into clusters; cells that nothing uses are in none."""
    return _Planner(whole).run()
