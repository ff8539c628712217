# SPDX-License-Identifier: BSD-2-Clause
"""Routes of the fabric, and what makes a table of them one that works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diptych.mesh.fabric import COLOR_BITS, POSITIONS, Combine, Port

__all__ = ["RouteEntry", "RouteError", "RouteTables", "check_routes"]


@dataclass(frozen=True)
class RouteEntry:
    """Route of one color in one tile, as :class:`diptych.mesh.fabric.Route`.

    Attributes
    ----------
    next : int, optional
        Switch position that a control wavelet moves the color to; it stays where there is none.
    then : tuple of RouteEntry
        The routes at positions 1, 2 and 3; this one is position 0.
    """

    sources: frozenset[Port] = frozenset()
    targets: frozenset[Port] = frozenset()
    combine: Combine = Combine.FORWARD
    color: int = 0
    next: int | None = None
    then: tuple[RouteEntry, ...] = ()

    def word(self) -> int:
        """Return the route at position 0 as a word of a ROUTE packet."""
        sources = sum(1 << port.value for port in self.sources)
        targets = sum(1 << port.value for port in self.targets)
        word = sources | targets << 5 | self.combine.value << 10 | self.color << 12
        return word if self.next is None else word | self.next << 17 | 1 << 19

    def positions(self) -> tuple[RouteEntry, ...]:
        """Return the routes at all positions."""
        return (self, *self.then)

    def words(self, color: int) -> list[tuple[int, int]]:
        """Return addresses and words of the ROUTE packets that load all positions of a color."""
        return [(color | n << COLOR_BITS, e.word()) for n, e in enumerate(self.positions())]


RouteTables = Sequence[Sequence[Sequence[RouteEntry]]]
"""Routes of every tile, ``[row][column][color]``."""
_Place = tuple[int, int]
_Node = tuple[int, int, int]  # row, column, color


class RouteError(ValueError):
    """Routes that contradict each other; the message names both places."""


def _name(node: _Node) -> str:
    row, column, color = node
    return f"Color {color} of tile ({row}, {column})"


class _Checker:
    def __init__(self, tables: RouteTables) -> None:
        self.tables = tables
        self.rows, self.columns = len(tables), len(tables[0])

    def nodes(self) -> Iterator[tuple[_Node, RouteEntry]]:
        for r, line in enumerate(self.tables):
            for c, table in enumerate(line):
                for k, entry in enumerate(table):
                    yield (r, c, k), entry

    def neighbor(self, node: _Node, port: Port, verb: str) -> _Place | None:
        """Return the tile behind a port; None is the core or the host."""
        if port is Port.RAMP or (port is Port.WEST and node[1] == 0):
            return None
        down, right = port.step
        place = (node[0] + down, node[1] + right)
        if place[0] not in range(self.rows) or place[1] not in range(self.columns):
            raise RouteError(
                f"{_name(node)} must not {verb} the {port.label}: tile {place} is outside "
                f"of the {self.rows}x{self.columns} mesh"
            )
        return place

    def describe(self, node: _Node, port: Port) -> str:
        place = self.neighbor(node, port, "come from")
        if place is None:
            return "the ramp" if port is Port.RAMP else "the west (the host)"
        return f"the {port.label} (tile {place})"

    def entry(self, node: _Node, entry: RouteEntry) -> None:
        """Check a color of a router by itself."""
        positions = entry.positions()
        if len(positions) > POSITIONS:
            raise RouteError(
                f"{_name(node)} must have at most {POSITIONS} positions, not {len(positions)}"
            )
        for position in positions:
            if position.next is not None and position.next not in range(len(positions)):
                raise RouteError(
                    f"{_name(node)} must move to a position in range({len(positions)}), "
                    f"not {position.next}"
                )
            for port in position.targets:
                self.neighbor(node, port, "go to")
            sources = sorted(position.sources)
            both = [self.describe(node, port) for port in sources]
            if len(both) > 1 and position.combine is Combine.FORWARD:
                raise RouteError(
                    f"{_name(node)} must combine or have one source, not both {both[0]} "
                    f"and {both[1]}"
                )

    def links(self) -> dict[tuple[_Node, Port], _Node]:
        """Return who sends into each color of each router at each port."""
        senders: dict[tuple[_Node, Port], _Node] = {}
        for node, entry in self.nodes():
            for position in entry.positions():
                if not position.sources:
                    continue
                for port in sorted(position.targets):
                    place = self.neighbor(node, port, "go to")
                    if place is None:
                        receiver, side = (*node[:2], position.color), port
                    else:
                        receiver, side = (*place, position.color), port.opposite
                    # The ramp is on both sides: what the core sends, and what it gets.
                    key = (receiver, side) if place else ((*receiver[:2], -1 - receiver[2]), side)
                    other = senders.setdefault(key, node)
                    if other != node:
                        where = self.describe(node, port) if place is None else f"tile {place}"
                        raise RouteError(
                            f"Color {position.color} of {where} must come from one color, not "
                            f"both color {other[2]} and color {node[2]} of tile {node[:2]}"
                        )
        return senders

    def ends(self, senders: dict[tuple[_Node, Port], _Node]) -> None:
        """Check that what arrives is taken, and that what is waited for is sent."""
        takes: set[tuple[_Node, Port]] = set()
        for node, entry in self.nodes():
            for position in entry.positions():
                for port in sorted(position.sources):
                    place = self.neighbor(node, port, "come from")
                    takes.add((node, port))
                    if place is not None and (node, port) not in senders:
                        raise RouteError(
                            f"{_name(node)} must not wait for the {port.label}: "
                            f"tile {place} never sends it"
                        )
        for (node, port), sender in senders.items():
            if node[2] >= 0 and (node, port) not in takes:
                raise RouteError(
                    f"{_name(sender)} must not go to the {port.opposite.label}: "
                    f"tile {node[:2]} never takes color {node[2]} from there"
                )

    def cycles(self, senders: dict[tuple[_Node, Port], _Node]) -> None:
        """Check that no color waits for itself."""
        after: dict[_Node, list[_Node]] = {}
        for (node, _), sender in senders.items():
            if node[2] >= 0:
                after.setdefault(sender, []).append(node)
        done: set[_Node] = set()
        for start, first in after.items():
            if start in done:
                continue
            way: dict[_Node, Iterator[_Node]] = {start: iter(first)}
            while way:
                here = next(reversed(way))
                there = next(way[here], None)
                if there is None:
                    del way[here]
                    done.add(here)
                elif there in way:
                    raise RouteError(
                        f"{_name(here)} must not wait for color {there[2]} of tile {there[:2]}, "
                        f"which waits for it"
                    )
                elif there not in done:
                    way[there] = iter(after.get(there, ()))


def check_routes(tables: RouteTables) -> None:
    """Refuse routes that cannot work, whatever wavelets come.

    A color of a router may wait for a credit of the next one, and with several sources for
    wavelets of each. Refused are: a route that leads off the mesh, except west to the host; two
    sources into one color of a router that does not combine, be they two ports or two colors; a
    color without a receiver, or without a sender; colors that wait for each other in a cycle.
    Positions of a switch are looked at as if all of them were taken, and wavelets that a core
    sends only after it has received others are not.

    Parameters
    ----------
    tables : RouteTables
        Routes of every tile of a mesh.

    Raises
    ------
    RouteError
        If two routes contradict each other; the message names both places.
    """
    checker = _Checker(tables)
    for node, entry in checker.nodes():
        checker.entry(node, entry)
        for position in entry.positions():
            if position.targets and position.color not in range(len(tables[node[0]][node[1]])):
                raise RouteError(
                    f"{_name(node)} must be sent as a color in "
                    f"range({len(tables[node[0]][node[1]])}), not {position.color}"
                )
    senders = checker.links()
    checker.ends(senders)
    checker.cycles(senders)
