# SPDX-License-Identifier: BSD-2-Clause
"""Routes of the decode panel's colors."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from diptych.mesh.fabric import LOAD_COLOR, Combine, Port
from diptych_sim.compiler.tile.routes import RouteEntry, check_routes

__all__ = ["Color", "RouteEntry", "colors_of", "route_tables"]


class Color(IntEnum):
    """Colors of a compiled decode program.

    A reduction has two: partial results travel to the middle tile in the first, and the result
    goes back to all tiles of the row or column in the second.
    """

    LOAD = LOAD_COLOR
    COLUMN_ADD = 1
    COLUMN_SUM = 2
    COLUMN_MAX = 3
    COLUMN_TOP = 4
    ROW_ADD = 5
    ROW_SUM = 6
    ROW_MAX = 7
    ROW_TOP = 8
    TOKEN = 9
    GROUP_ADD = 10
    """Of the columns that share a head; there are these only where columns do."""
    GROUP_SUM = 11
    GROUP_MAX = 12
    """Only where norms of heads are shared, too."""
    GROUP_TOP = 13


def _all_reduce(
    index: int, count: int, before: Port, behind: Port, combine: Combine, result: Color
) -> tuple[RouteEntry, RouteEntry]:
    """Routes to the middle of a line of tiles and back, for the tile at ``index``."""
    root = count // 2
    there = [port for port, exists in ((before, index > 0), (behind, index < count - 1)) if exists]
    if index == root:
        up = RouteEntry(
            frozenset([*there, Port.RAMP]), frozenset([*there, Port.RAMP]), combine, result
        )
        return up, RouteEntry()
    toward, away = (behind, before) if index < root else (before, behind)
    outer = frozenset([away]) & frozenset(there)
    up = RouteEntry(outer | {Port.RAMP}, frozenset([toward]), combine, result - 1)
    return up, RouteEntry(frozenset([toward]), outer | {Port.RAMP}, Combine.FORWARD, result)


def colors_of(split: int, *, normed: bool) -> int:
    """Return how many colors a run uses if ``split`` columns share their heads.

    ``normed``: each head has a norm.
    """
    if split == 1:
        return Color.GROUP_ADD.value  # a number, which the build cache knows
    return len(Color) if normed else Color.GROUP_MAX.value


def route_tables(
    rows: int, columns: int, split: int = 1, *, first: int = 0
) -> list[list[Sequence[RouteEntry]]]:
    """Return the routes of every tile, ``[row][column][color]``.

    Sums and maxima of a row meet in column ``columns // 2``, those of a column in row
    ``rows // 2``; those of ``split`` columns that share their heads, from column ``first`` on, in the
    middle one of these.
    Tokens leave tile (0, 0) to the west and are discarded elsewhere.
    """
    # Routes along a row do not depend on those along a column: a few lines stand for all.
    check_routes(_tables(min(rows, _CHECKED), columns, split, first))
    check_routes(_tables(rows, min(columns, _CHECKED), split, 0))
    return _tables(rows, columns, split, first)


_CHECKED = 4
"""Lines of tiles in which routes along the others are checked."""


def _tables(rows: int, columns: int, split: int, first: int) -> list[list[Sequence[RouteEntry]]]:
    down = [_down(r, rows) for r in range(rows)]
    along = [_along(c, columns, split, first) for c in range(columns)]
    ramp = frozenset([Port.RAMP])
    token, leaves = (
        RouteEntry(ramp, frozenset(targets), Combine.FORWARD, Color.TOKEN)
        for targets in ([], [Port.WEST])
    )
    tables: list[list[Sequence[RouteEntry]]] = [
        [
            (
                load,
                *down[r],
                *row[:_OF_ROWS],
                leaves if (r, c) == (0, 0) else token,
                *row[_OF_ROWS:],
            )
            for c, (load, *row) in enumerate(along)
        ]
        for r in range(rows)
    ]
    return tables


_OF_ROWS = Color.ROW_TOP - Color.COLUMN_TOP


def _down(r: int, rows: int) -> list[RouteEntry]:
    """Return the routes of a row's tiles along their columns."""
    found: list[RouteEntry] = []
    for combine, result in ((Combine.ADD, Color.COLUMN_SUM), (Combine.MAX, Color.COLUMN_TOP)):
        found += _all_reduce(r, rows, Port.NORTH, Port.SOUTH, combine, result)
    return found


def _along(c: int, columns: int, split: int, first: int) -> list[RouteEntry]:
    """Return the routes of a column's tiles along their rows: loads first, groups last."""
    east = {Port.EAST} if c + 1 < columns else set()
    targets = frozenset({Port.RAMP, *east})
    found = [RouteEntry(frozenset([Port.WEST]), targets, Combine.FORWARD, Color.LOAD)]
    for combine, result in ((Combine.ADD, Color.ROW_SUM), (Combine.MAX, Color.ROW_TOP)):
        found += _all_reduce(c, columns, Port.WEST, Port.EAST, combine, result)
    if split > 1:
        begin = c - (c - first) % split
        end = min(begin + split, columns)
        begin = max(begin, 0)
        place = (c - begin, end - begin, Port.WEST, Port.EAST)
        for combine, result in ((Combine.ADD, Color.GROUP_SUM), (Combine.MAX, Color.GROUP_TOP)):
            found += _all_reduce(*place, combine, result)
    return found
