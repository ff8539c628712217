# SPDX-License-Identifier: BSD-2-Clause
"""Reductions and broadcasts along lines and trees of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isqrt

from diptych.mesh.fabric import Port
from diptych_sim.compiler.collectives.plan import Line, Place, Plan

__all__ = [
    "Tree",
    "along_lines",
    "fabric_broadcast",
    "fabric_reduce",
    "group_size",
    "keep_own",
    "spanning_tree",
]

RAMP = Port.RAMP
Tree = Mapping[Place, tuple[Port | None, list[Port]]]
"""For each tile the port to its parent and those to its children."""


def group_size(count: int) -> int:
    """Tiles in a group of the two-phase algorithm: about the square root of all."""
    return max(1, isqrt(count - 1) + 1) if count > 1 else 1


# --- along a line, through the cores; a color on its way out of a core may have another name ---
def _hop(plan: Plan, way: Line, start: int, end: int, out: int, into: int) -> None:
    """Route from tile ``start`` of a line to tile ``end``; on the way they pass as ``into``."""
    forth, back = (way.toward, way.away) if end < start else (way.away, way.toward)
    plan.route(way.places[start], out, {RAMP}, {forth}, sent_as=into)
    for index in range(min(start, end) + 1, max(start, end)):
        plan.route(way.places[index], into, {back}, {forth})
    plan.route(way.places[end], into, {back}, {RAMP})


def _absorb(plan: Plan, place: Place, color: int) -> None:
    """Combine what comes on a color with what the tile has."""
    plan.move(place, memory=plan.partial[place], joins=color, store=True)
    plan.partial[place] = "result"


def _pass_on(plan: Plan, place: Place, joins: int | None, color: int) -> None:
    """Send what the tile has, combined with what comes on a color."""
    plan.move(place, memory=plan.partial[place], joins=joins, sends=color)


def _chain_reduce(plan: Plan, way: Line, colors: range) -> None:
    """From the end of the line each tile adds what it has, and sends it to the next one."""
    out, into = colors
    last = len(way.places) - 1
    for index in range(last, 0, -1):
        _hop(plan, way, index, index - 1, out, into)
        _pass_on(plan, way.places[index], None if index == last else into, out)
    _absorb(plan, way.places[0], into)


def _tree_reduce(plan: Plan, way: Line, colors: range) -> None:
    """In round ``j`` every other tile that is left sends to the one ``2**j`` nearer to the root."""
    count = len(way.places)
    rounds = (count - 1).bit_length()
    for index, place in enumerate(way.places):
        # The round in which this tile sends is the last in which it receives, and one more.
        sends = (index & -index).bit_length() - 1 if index else rounds
        comes = [colors[j] for j in range(sends) if index + 2**j < count]
        for color in comes[:-1] if index else comes:
            _absorb(plan, place, color)
        if index:
            color = colors[sends]
            _hop(plan, way, index, index - 2**sends, color, color)
            _pass_on(plan, place, comes[-1] if comes else None, color)


def _two_phase_reduce(plan: Plan, way: Line, colors: range) -> None:
    """Chains in groups, and then a chain of the groups' first tiles."""
    count, size = len(way.places), group_size(len(way.places))
    out, into, far_out, far_into = colors
    leaders = range(0, count, size)
    for leader in leaders:
        end = min(leader + size, count) - 1
        for index in range(end, leader, -1):
            _hop(plan, way, index, index - 1, out, into)
            _pass_on(plan, way.places[index], None if index == end else into, out)
    for leader in reversed(leaders):
        place = way.places[leader]
        comes = [into] if leader + 1 < min(leader + size, count) else []
        comes += [far_into] if leader + size < count else []
        # The last one also waits for its whole group: its words would take turns on the links
        # with those of the group before.
        last = leader + size >= count
        joins = comes.pop() if comes and leader and not last else None
        for color in comes:
            _absorb(plan, place, color)
        if leader:
            _hop(plan, way, leader, leader - size, far_out, far_into)
            _pass_on(plan, place, joins, far_out)


def _chain_broadcast(plan: Plan, way: Line, colors: range) -> None:
    """Each tile stores what comes, and sends it to the next one."""
    out, into = colors
    last = len(way.places) - 1
    plan.move(way.places[0], memory=plan.partial[way.places[0]], sends=out)
    for index in range(last):
        _hop(plan, way, index, index + 1, out, into)
        plan.move(
            way.places[index + 1], joins=into, store=True, sends=out if index + 1 < last else None
        )
        plan.partial[way.places[index + 1]] = "result"


def _tree_broadcast(plan: Plan, way: Line, colors: range) -> None:
    """The rounds of :func:`_tree_reduce`, backwards."""
    count = len(way.places)
    rounds = (count - 1).bit_length()
    for index, place in enumerate(way.places):
        comes = (index & -index).bit_length() - 1 if index else rounds
        goes = [j for j in range(comes) if index + 2**j < count][::-1]
        for j in goes:
            _hop(plan, way, index, index + 2**j, colors[j], colors[j])
        if index:
            first = colors[goes.pop(0)] if goes else None
            plan.move(place, joins=colors[comes], store=True, sends=first)
            plan.partial[place] = "result"
        for j in goes:
            plan.move(place, memory=plan.partial[place], sends=colors[j])


def _two_phase_broadcast(plan: Plan, way: Line, colors: range) -> None:
    """A chain of the groups' first tiles, and then chains in groups."""
    count, size = len(way.places), group_size(len(way.places))
    out, into, far_out, far_into = colors
    for leader in range(0, count, size):
        place = way.places[leader]
        far = leader + size < count
        if far:
            _hop(plan, way, leader, leader + size, far_out, far_into)
        if leader:
            plan.move(place, joins=far_into, store=True, sends=far_out if far else None)
            plan.partial[place] = "result"
        elif far:
            plan.move(place, memory=plan.partial[place], sends=far_out)
        last = min(leader + size, count) - 1
        if last > leader:
            plan.move(place, memory=plan.partial[place], sends=out)
        for index in range(leader, last):
            _hop(plan, way, index, index + 1, out, into)
            there = way.places[index + 1]
            plan.move(there, joins=into, store=True, sends=out if index + 1 < last else None)
            plan.partial[there] = "result"


_REDUCTIONS = {"chain": _chain_reduce, "tree": _tree_reduce, "two-phase": _two_phase_reduce}
_BROADCASTS = {
    "chain": _chain_broadcast,
    "tree": _tree_broadcast,
    "two-phase": _two_phase_broadcast,
}


def keep_own(plan: Plan, roots: Iterable[Place]) -> None:
    """Let roots that nothing was reduced into store their own vector as the result."""
    for place in roots:
        if plan.partial[place] == "vector":
            plan.move(place, memory="vector", store=True)
            plan.partial[place] = "result"


def along_lines(plan: Plan, ways: Sequence[Line], algorithm: str, *, broadcast: bool) -> None:
    """Reduce to the first tile of each line, or broadcast from it; lines of the same length.

    Parameters
    ----------
    algorithm : str
        ``chain``, ``tree`` or ``two-phase``.

    Raises
    ------
    CollectiveError
        If there are not colors enough.
    """
    count = len(ways[0].places)
    if count == 1:
        return  # each tile has all that it needs; :func:`keep_own` stores what is left so
    needed = {"chain": 2, "tree": (count - 1).bit_length(), "two-phase": 4}[algorithm]
    colors = plan.colors(needed)
    run = (_BROADCASTS if broadcast else _REDUCTIONS)[algorithm]
    for way in ways:
        run(plan, way, colors)


# --- in the fabric ---------------------------------------------------------------------------------
def spanning_tree(root: Place, rows: range, columns: range) -> Tree:
    """Return a tree over a rectangle.

    It goes along the rows to the root's column, and along that to the root.
    """
    tree: dict[Place, tuple[Port | None, list[Port]]] = {}
    up: dict[Place, Port | None] = {}
    for r in rows:
        for c in columns:
            if c != root[1]:
                up[r, c] = Port.WEST if c > root[1] else Port.EAST
            elif r != root[0]:
                up[r, c] = Port.NORTH if r > root[0] else Port.SOUTH
            else:
                up[r, c] = None
            tree[r, c] = (up[r, c], [])
    for (r, c), port in up.items():
        if port is not None:
            down, right = port.step
            tree[r + down, c + right][1].append(port.opposite)
    return tree


def _all(trees: Sequence[Tree]) -> Iterator[tuple[Place, Port | None, list[Port]]]:
    for tree in trees:
        for place, (parent, children) in tree.items():
            yield place, parent, children


def fabric_broadcast(plan: Plan, trees: Sequence[Tree]) -> None:
    """Routers pass what the root has to their children and to the ramp."""
    (color,) = plan.colors(1)
    for place, parent, children in _all(trees):
        if parent is None:
            plan.route(place, color, {RAMP}, set(children))
            plan.move(place, memory=plan.partial[place], sends=color)
        else:
            plan.route(place, color, {parent}, {RAMP, *children})
            plan.move(place, joins=color, store=True)
            plan.partial[place] = "result"


def fabric_reduce(plan: Plan, trees: Sequence[Tree], *, everywhere: bool) -> None:
    """Routers combine what comes from their children and from the ramp.

    The result goes to each root, or back to all tiles of its tree.
    """
    partial, result = plan.colors(2)
    for place, parent, children in _all(trees):
        sources = {RAMP, *children}
        if parent is None:
            targets = {RAMP, *(children if everywhere else ())}
            plan.route(place, partial, sources, targets, combine=plan.combine, sent_as=result)
        else:
            plan.route(place, partial, sources, {parent}, combine=plan.combine)
            if everywhere:
                plan.route(place, result, {parent}, {RAMP, *children})
        if everywhere or parent is None:
            plan.move(place, joins=result, store=True, background=True)
        plan.move(place, memory=plan.partial[place], sends=partial)
