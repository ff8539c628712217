# SPDX-License-Identifier: BSD-2-Clause
"""Finds counters: registers that grow by what does not depend on them, and that nothing else uses.

While nothing else changes they grow by the same amount in each cycle, so that a block which only
counts need not be evaluated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .commits import Commit
from .graph import Graph
from .regions import needs_of

__all__ = ["counters_of"]


def counters_of(
    graph: Graph, commits: Sequence[Commit], nodes: Iterable[int], always: Iterable[int]
) -> dict[int, list[int]]:
    """Return the sums that each counter may become, by the counter's register.

    Parameters
    ----------
    graph : Graph
        The operations.
    commits : sequence of Commit
        All changes at the clock edge.
    nodes, always : iterable of int
        The operations that are needed, and those that something else than operations and changes uses.
    """
    # Commits have the numbers below 0.
    users: dict[int, set[int]] = defaultdict(set)
    for node in nodes:
        for used, _, _ in needs_of(graph, node):
            users[used].add(node)
    for number, commit in enumerate(commits):
        for used in (commit.guard, *(node for node, _, _ in commit.needs)):
            users[used].add(~number)
    for node in always:
        users[node].add(node)
    out = {}
    for number, commit in enumerate(commits):
        if len(commit.registers) != 1:
            continue
        (register,) = commit.registers
        sums = {taken[0] for _, taken in commit.arms} or {register.next}
        if graph.nodes[register.node].width == 1 or users[register.node] != sums:
            continue
        if all(_grows(graph, register.node, n) and users[n] == {~number} for n in sums):
            out[register.node] = sorted(sums)
    return out


def _grows(graph: Graph, counter: int, total: int) -> bool:
    """Return whether a node is the sum of a counter and something else."""
    op, width, args = graph.nodes[total]
    return op == "add" and width == graph.nodes[counter].width and args.count(counter) == 1
