# SPDX-License-Identifier: BSD-2-Clause
"""Cuts a design into clusters: operations and commits that are evaluated together.

A cluster is evaluated in a cycle in which something that it uses has changed, and its guards hold
in some lane. Clusters are in an order in which none uses what a later one computes, and most follow those
that use what they change (:mod:`.in_place`).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from diptych_sim.engine.cluster_cost import ClusterCost

from .commits import Commit, commits_of
from .counting import counters_of
from .graph import Graph
from .in_place import changed_in_place, readers_first
from .layout import element_bytes
from .lower import Lowered
from .regions import Regions, cost_of, needs_of

__all__ = ["Cluster", "Plan", "base", "plan"]

CHANGES = 0.02
"""How often a value changes, about: a share of all cycles."""
OVERHEAD = 60
"""Cost, in vector operations, of evaluating a cluster at all."""
LIMIT = 400
"""Cost above which nothing more is put into a cluster."""
_COST = ClusterCost(changes=CHANGES, overhead=OVERHEAD, limit=LIMIT)


@dataclass
class Cluster:
    """What is evaluated together.

    Attributes
    ----------
    guards : list of (int, bool)
        Conditions without which nothing of it is needed, the outermost first, and what each must be.
    nodes : list of int
        Operations, each after those that it uses.
    commits : list of Commit
        Changes at the clock edge, those of single bits first.
    asserts, outputs : list of int
        Numbers of assertions, and nodes that are outputs but not registers.
    """

    guards: list[tuple[int, bool]]
    nodes: list[int] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    asserts: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    @property
    def changes(self) -> list[int]:
        """Registers that change."""
        return [node for commit in self.commits for node in commit.changes]


@dataclass
class Plan:
    """Clusters in order, and which of them use a node or a memory that they do not compute.

    Attributes
    ----------
    counting : set of int
        Clusters that do nothing but let counters (:func:`.counters_of`) grow.
    in_place : set of int
        Registers that nothing reads after their cluster: they change with it, not at the clock edge.
    """

    clusters: list[Cluster]
    users: dict[int, list[int]]
    readers: dict[int, list[int]]
    counting: set[int]
    in_place: set[int]

    def aside(self, number: int) -> list[int]:
        """Return the registers that a cluster changes at the clock edge."""
        return [node for node in self.clusters[number].changes if node not in self.in_place]

    def together(self) -> list[list[int]]:
        """Return registers that change together; first those that change at the clock edge."""
        out = [self.aside(number) for number in range(len(self.clusters))]
        out += [[n for n in c.changes if n in self.in_place] for c in self.clusters]
        return out


@dataclass
class _Item:
    """Something to be put into a cluster.

    ``kind`` is the list of the cluster that ``what`` belongs to; ``color`` is a region, or that it
    writes, with a module; and whether it counts. Items of one color are put together.
    """

    kind: str
    what: Any
    color: tuple[Any, int, bool]
    cost: int
    uses: list[int]


@dataclass
class _Open:
    """A cluster that grows."""

    items: list[int] = field(default_factory=list)
    made: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)
    cost: int = 0

    def gain(self, used: set[int], cost: int, alone: float) -> float:
        """Return what is saved when something more is put into it."""
        both = len(self.used | used - self.made)
        return _COST.saved((len(self.used), self.cost), (both, self.cost + cost), alone)

    def add(self, items: list[int], made: set[int], used: set[int], cost: int) -> None:
        self.items += items
        self.used |= used - self.made
        self.made |= made
        self.cost += cost


def base(graph: Graph, node: int) -> int:
    """Return what a node is made of without an operation: inversions are part of their users."""
    while graph.nodes[node].op == "not":
        node = graph.nodes[node].args[0]
    return node


def _uses(graph: Graph, commit: Commit) -> list[int]:
    return [node for node, _, _ in commit.needs] + [commit.guard]


def _items(
    low: Lowered, commits: list[Commit], regions: Regions, always: list[int]
) -> Iterator[_Item]:
    graph = low.graph
    counters = counters_of(graph, commits, regions.nodes, always)
    sums = {}
    for commit, region in zip(commits, regions.commits, strict=True):
        for node in {total for counter in commit.changes for total in counters.get(counter, ())}:
            # They wait for what their counter waits for, so that they are put together.
            sums[node] = (
                (region, low.modules[commit.cell], True),
                [commit.guard, *(c for c, _ in commit.arms)],
            )
    for node in sorted(regions.nodes):
        if graph.nodes[node].op not in ("const", "source", "not"):
            alone = (regions.nodes[node], graph.origin[node], False), []
            color, waits = sums.get(node, alone)
            uses = [arg for arg, _, _ in needs_of(graph, node)] + waits
            yield _Item("nodes", node, color, cost_of(graph, node), uses)
    for commit, region in zip(commits, regions.commits, strict=True):
        # Writes have a cluster of their own: what they use must stay until the clock edge.
        counts = bool(counters.keys() & set(commit.changes))
        color = (region, low.modules[commit.cell], counts)
        if commit.writes:
            color = ("writes", commit.cell, False)
        yield _Item("commits", commit, color, len(commit.changes), _uses(graph, commit))
    for number, (node, _) in enumerate(low.asserts):
        if node:
            yield _Item("asserts", number, (0, graph.origin[node], False), 1, [node])
    for node in sorted({node for driven in low.driven().values() for node in driven}):
        if graph.nodes[node].op != "source":
            yield _Item("outputs", node, (0, graph.origin[node], False), 1, [node])


class _Clusters:
    def __init__(self, low: Lowered) -> None:
        self.graph = low.graph
        commits = commits_of(low)
        always = [node for node, _ in low.asserts]
        always += {node for driven in low.driven().values() for node in driven}
        self.regions = Regions(low.graph, commits, always)
        self.items = list(_items(low, commits, self.regions, always))
        maker = {item.what: n for n, item in enumerate(self.items) if item.kind == "nodes"}
        self.waits: list[set[int]] = []
        self.users: list[list[int]] = [[] for _ in self.items]
        for n, item in enumerate(self.items):
            uses = [base(self.graph, node) for node in item.uses]
            uses += [base(self.graph, node) for node, _ in self.guards(item)]
            wait = {maker[node] for node in uses if node in maker}
            self.waits.append(wait)
            for other in wait:
                self.users[other].append(n)

    def reads(self, commit: Commit) -> set[int]:
        """Return the nodes that a change uses."""
        return {base(self.graph, node) for node in _uses(self.graph, commit)}

    def guards(self, item: _Item) -> list[tuple[int, bool]]:
        if isinstance(item.what, Commit) and item.what.writes:
            return [(item.what.guard, True)] if item.what.guard > 1 else []
        return self.regions.guards(item.color[0])

    def runs(self) -> Iterator[list[int]]:
        """Yield items of a color that can be computed in turn, given those before.

        The color is one that needs nothing more of others, or as little as can be.
        """
        left = [set(wait) for wait in self.waits]
        colors = [item.color for item in self.items]
        blocked: dict[Hashable, int] = defaultdict(int)
        for n, wait in enumerate(left):
            blocked[colors[n]] += any(colors[other] != colors[n] for other in wait)
        foreign = [sum(colors[o] != colors[n] for o in wait) for n, wait in enumerate(left)]
        ready: dict[Hashable, list[int]] = defaultdict(list)
        for n, wait in enumerate(left):
            if not wait:
                ready[colors[n]].append(n)
        while ready:
            color = min(ready, key=lambda c: (blocked[c], -len(ready[c])))
            heap = ready.pop(color)
            heapq.heapify(heap)
            out = []
            while heap:
                n = heapq.heappop(heap)
                out.append(n)
                for user in self.users[n]:
                    left[user].discard(n)
                    if colors[user] != color:
                        foreign[user] -= 1
                        blocked[colors[user]] -= not foreign[user]
                    if not left[user]:
                        if colors[user] == color:
                            heapq.heappush(heap, user)
                        else:
                            ready[colors[user]].append(user)
            yield out

    def pieces(self, run: list[int]) -> list[list[int]]:
        """Cut a run into clusters: what is expected to be evaluated together is put together.

        Its trees, of operations that only one other uses, are put into clusters one by one: each
        where it costs least, after what it uses.
        """
        inside = set(run)
        users = {n: [u for u in self.users[n] if u in inside] for n in run}
        single = {n: us[0] for n, us in users.items() if len(us) == 1 == len(self.users[n])}
        root: dict[int, int] = {}
        for n in reversed(run):
            root[n] = root[single[n]] if n in single else n
        trees: dict[int, list[int]] = defaultdict(list)
        for n in run:
            trees[root[n]].append(n)
        out: list[_Open] = []
        home: dict[int, int] = {}  # cluster of each tree
        near: dict[int, set[int]] = defaultdict(set)  # clusters that use a node
        for top in (n for n in run if root[n] == n):
            members = trees[top]
            made = {self.items[n].what for n in members if self.items[n].kind == "nodes"}
            used = {base(self.graph, node) for n in members for node in self.items[n].uses}
            used = {node for node in used - made if node > 1}
            waits = {root[other] for n in members for other in self.waits[n] if other in inside}
            first = max((home[other] for other in waits - {top}), default=0)
            cost = sum(self.items[n].cost for n in members)
            alone = _COST.expected(len(used), cost)
            best, choice = 0.0, len(out)
            for number in sorted({c for node in used for c in near[node] if c >= first}):
                gain = out[number].gain(used, cost, alone)
                if gain > best:
                    best, choice = gain, number
            if choice == len(out):
                out.append(_Open())
            out[choice].add(members, made, used, cost)
            home[top] = choice
            for node in used | made:
                near[node].add(choice)
        return [cluster.items for cluster in out]

    def cluster(self, piece: list[int]) -> Cluster:
        out = Cluster(self.guards(self.items[piece[0]]))
        for n in piece:
            getattr(out, self.items[n].kind).append(self.items[n].what)
        # Single bits of all parts are computed at once, elements part by part.
        out.commits.sort(key=lambda c: any(self.graph.nodes[n].width > 1 for n in c.changes))
        return out

    def counts(self, piece: list[int]) -> bool:
        """Return whether a piece is of counters."""
        return self.items[piece[0]].color[2]

    def used(self, piece: list[int], cluster: Cluster) -> set[int]:
        """Return the nodes that a cluster uses and does not compute."""
        used = {base(self.graph, node) for n in piece for node in self.items[n].uses}
        used |= {base(self.graph, node) for node, _ in cluster.guards}
        return {node for node in used - set(cluster.nodes) if node > 1}


def _in_order(
    work: _Clusters, pieces: list[list[int]], clusters: list[Cluster], used: list[set[int]]
) -> tuple[list[int], set[int]]:
    """Return the order of clusters, and the registers that change in place."""
    nodes = work.graph.nodes
    home = {n: k for k, piece in enumerate(pieces) for n in piece}
    waits = [
        {home[o] for n in piece for o in work.waits[n]} - {k} for k, piece in enumerate(pieces)
    ]
    # A block that rests has kept aside what its counters would be.
    changes = [
        set() if work.counts(piece) else changed_in_place(cluster.commits, work.reads)
        for piece, cluster in zip(pieces, clusters, strict=True)
    ]
    order = readers_first(waits, used, changes, lambda n: element_bytes(nodes[n].width) * 8 or 1)
    # Writes come last: at the clock edge they use what registers held before.
    order.sort(key=lambda k: work.items[pieces[k][0]].color[0] == "writes")
    last: dict[int, int] = {}
    for at, k in enumerate(order):
        last |= dict.fromkeys(used[k], at)
    in_place = {
        node for at, k in enumerate(order) for node in changes[k] if last.get(node, at) <= at
    }
    return order, in_place


def plan(low: Lowered) -> Plan:
    """Cut a design into clusters."""
    work = _Clusters(low)
    pieces = [piece for run in work.runs() for piece in work.pieces(run)]
    clusters = [work.cluster(piece) for piece in pieces]
    used = [work.used(*both) for both in zip(pieces, clusters, strict=True)]
    order, in_place = _in_order(work, pieces, clusters, used)
    users: dict[int, list[int]] = defaultdict(list)
    readers: dict[int, list[int]] = defaultdict(list)
    for number, k in enumerate(order):
        # A register that keeps its value in some lanes uses itself, but that changes nothing.
        for node in sorted(used[k]):
            users[node].append(number)
        memories = {
            low.graph.nodes[n].args[0]
            for n in clusters[k].nodes
            if low.graph.nodes[n].op == "aread"
        }
        memories |= {commit.read.memory for commit in clusters[k].commits if commit.read}
        for memory in sorted(memories):
            readers[memory].append(number)
    counting = {
        number
        for number, k in enumerate(order)
        if work.counts(pieces[k]) and not users.keys() & set(clusters[k].nodes)
    }
    return Plan([clusters[k] for k in order], users, readers, counting, in_place)
