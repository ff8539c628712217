# SPDX-License-Identifier: BSD-2-Clause
"""Orders clusters so that most registers change where they are.

A register that nothing reads any more in a cycle takes its next value at once. Others keep theirs aside
until the clock edge, which costs two more ways through memory.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence

from .commits import Commit

__all__ = ["changed_in_place", "readers_first"]


def readers_first(
    waits: Sequence[set[int]],
    reads: Sequence[set[int]],
    changes: Sequence[set[int]],
    size: Callable[[int], int],
) -> list[int]:
    """Return an order of clusters in which most of what changes has been read before.

    Parameters
    ----------
    waits : sequence of set of int
        Clusters that each must follow.
    reads, changes : sequence of set of int
        Registers that each reads, and those that it may change in place.
    size : callable
        Size of a register.
    """
    writer = {node: k for k, nodes in enumerate(changes) for node in nodes}
    unread: dict[int, set[int]] = defaultdict(set)
    users: list[list[int]] = [[] for _ in waits]
    for k, (wait, nodes) in enumerate(zip(waits, reads, strict=True)):
        for other in wait:
            users[other].append(k)
        for node in nodes - changes[k]:
            unread[node].add(k)
    # What a cluster would keep aside if it came next.
    aside = [sum(size(node) for node in nodes if unread[node]) for nodes in changes]
    left = [len(wait) for wait in waits]
    ready = [(aside[k], k) for k, count in enumerate(left) if not count]
    heapq.heapify(ready)
    out: list[int] = []
    done = [False] * len(left)
    while ready:
        cost, k = heapq.heappop(ready)
        if done[k] or cost != aside[k]:
            continue
        done[k] = True
        out.append(k)
        for node in reads[k] - changes[k]:
            unread[node].discard(k)
            other = writer.get(node)
            if other is not None and not unread[node]:
                aside[other] -= size(node)
                if not left[other]:
                    heapq.heappush(ready, (aside[other], other))
        for user in users[k]:
            left[user] -= 1
            if not left[user]:
                heapq.heappush(ready, (aside[user], user))
    return out


def changed_in_place(commits: Sequence[Commit], reads: Callable[[Commit], set[int]]) -> set[int]:
    """Return registers that a cluster may change at once, as far as the cluster itself reads them.

    Parameters
    ----------
    commits : sequence of Commit
        Its changes, in order.
    reads : callable
        What a commit reads.
    """
    out: set[int] = set()
    later: set[int] = set()
    for commit in reversed(commits):
        own = reads(commit) if len(commit.changes) > 1 else set()
        out |= set(commit.changes) - later - own
        later |= reads(commit)
    return out
