# SPDX-License-Identifier: BSD-2-Clause
"""Plan of a collective: moves of each tile, and routes of each color."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.mesh.fabric import LOAD_COLOR, MAX_COLORS, Combine, Port
from diptych_sim.compiler.tile.routes import RouteEntry

__all__ = [
    "GATHER",
    "CollectiveError",
    "Line",
    "Move",
    "Place",
    "Plan",
    "line",
]

Place = tuple[int, int]
Memory = Literal["vector", "result"]
GATHER = 1
"""The color on which results leave the mesh."""


class CollectiveError(ValueError):
    """A collective that the mesh cannot run."""


@dataclass(frozen=True)
class Move:
    """A vector's way through a tile: one MOVE, or in the background a RECEIVE.

    Attributes
    ----------
    memory : "vector" or "result", optional
        Where an operand is read.
    joins : int, optional
        Color of the other operand; with ``memory`` the two are combined.
    store : bool
        Whether what comes of it becomes the result.
    sends : int, optional
        Color on which it leaves.
    background : bool
        Whether the tile goes on at once; only from a color to memory.
    """

    memory: Memory | None = None
    joins: int | None = None
    store: bool = False
    sends: int | None = None
    background: bool = False


@dataclass(frozen=True)
class Line:
    """Tiles in a line, the root first.

    Attributes
    ----------
    places : tuple
        The tiles.
    toward, away : Port
        Where the root lies, and where it does not.
    """

    places: tuple[Place, ...]
    toward: Port
    away: Port


def line(root: Place, away: Port, length: int) -> Line:
    """Return the line of ``length`` tiles that begins at a root."""
    down, right = away.step
    places = tuple((root[0] + n * down, root[1] + n * right) for n in range(length))
    return Line(places, away.opposite, away)


@dataclass
class Plan:
    """Moves and routes, while algorithms add to them.

    Attributes
    ----------
    rows, columns : int
        The mesh.
    combine : Combine
        How vectors are combined.
    moves : dict
        Moves of each tile, in order.
    partial : dict
        Where each tile has what has been reduced into it so far.
    """

    rows: int
    columns: int
    combine: Combine
    moves: dict[Place, list[Move]] = field(default_factory=dict)
    partial: dict[Place, Memory] = field(default_factory=dict)
    _routes: dict[tuple[Place, int], RouteEntry] = field(default_factory=dict)
    _colors: int = GATHER + 1

    def __post_init__(self) -> None:
        for place in self.places():
            self.moves[place] = []
            self.partial[place] = "vector"
            columns = range(self.columns)
            east = {Port.EAST} & {p for p in (Port.EAST,) if place[1] + 1 in columns}
            self.route(place, LOAD_COLOR, {Port.WEST}, {Port.RAMP, *east})
            # Own results first; the last of them switches to those from the east.
            passes = (RouteEntry(frozenset([Port.EAST]), frozenset([Port.WEST]), color=GATHER),)
            self._routes[place, GATHER] = RouteEntry(
                frozenset([Port.RAMP]),
                frozenset([Port.WEST]),
                color=GATHER,
                next=1 if east else None,
                then=passes if east else (),
            )

    def places(self) -> list[Place]:
        """Return all tiles."""
        return [(r, c) for r in range(self.rows) for c in range(self.columns)]

    def colors(self, count: int) -> range:
        """Return colors that nothing else uses.

        Raises
        ------
        CollectiveError
            If there are no more.
        """
        first, self._colors = self._colors, self._colors + count
        if self._colors > MAX_COLORS:
            raise CollectiveError(
                f"Collective must need at most {MAX_COLORS} colors, not {self._colors}"
            )
        return range(first, self._colors)

    @property
    def color_count(self) -> int:
        """Number of colors in use."""
        return self._colors

    def route(
        self,
        place: Place,
        color: int,
        sources: set[Port],
        targets: set[Port],
        *,
        combine: Combine | None = None,
        sent_as: int | None = None,
    ) -> None:
        """Set the route of a color in a tile that has none yet."""
        assert (place, color) not in self._routes
        self._routes[place, color] = RouteEntry(
            frozenset(sources),
            frozenset(targets),
            combine if combine is not None and len(sources) > 1 else Combine.FORWARD,
            color if sent_as is None else sent_as,
        )

    def move(self, place: Place, **fields: Any) -> None:
        """Append a :class:`Move`."""
        self.moves[place].append(Move(**fields))

    def tables(self) -> list[list[Sequence[RouteEntry]]]:
        """Return the routes of every tile, ``[row][column][color]``."""
        return [
            [
                tuple(self._routes.get(((r, c), k), RouteEntry()) for k in range(self._colors))
                for c in range(self.columns)
            ]
            for r in range(self.rows)
        ]
