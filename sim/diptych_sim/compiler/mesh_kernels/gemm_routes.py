# SPDX-License-Identifier: BSD-2-Clause
"""Routes of matrix products on the mesh."""

from __future__ import annotations

from enum import IntEnum

from diptych.mesh.fabric import LOAD_COLOR, Port
from diptych_sim.compiler.tile.kernel import load_route
from diptych_sim.compiler.tile.routes import RouteEntry

__all__ = ["BroadcastColor", "ShiftColor", "broadcast_routes", "ring_place", "shift_routes"]

_ROW, _COLUMN = (Port.WEST, Port.EAST), (Port.NORTH, Port.SOUTH)


class ShiftColor(IntEnum):
    """Colors of the shift algorithm: a block leaves, passes a tile, arrives."""

    LOAD = LOAD_COLOR
    READ = 1
    X_LEAVES = 2
    X_PASSES = 3
    X_ARRIVES = 4
    W_LEAVES = 5
    W_PASSES = 6
    W_ARRIVES = 7


class BroadcastColor(IntEnum):
    """Colors of the broadcast algorithm; then one for each column of X, and each row of W."""

    LOAD = LOAD_COLOR
    READ = 1
    FIRST = 2


def ring_place(index: int, count: int) -> int:
    """Return the place in the ring of the tile at ``index`` of a line of ``count``.

    The ring goes out over the even tiles and comes back over the odd ones, so that neighbors in
    it are at most two hops apart (interleaving of WaferLLM's MeshGEMM, OSDI 2025).
    """
    return index // 2 if index % 2 == 0 else count - 1 - index // 2


def _ring_step(index: int, count: int) -> int:
    """Return how far, signed, the next tile of the ring is."""
    place = (ring_place(index, count) + 1) % count
    return next(n for n in range(count) if ring_place(n, count) == place) - index


def _shift(
    index: int, count: int, ports: tuple[Port, Port], leaves: int
) -> tuple[RouteEntry, RouteEntry, RouteEntry]:
    """Routes of what leaves, passes and arrives, for the tile at ``index`` of a line."""
    ramp = frozenset([Port.RAMP])
    if count == 1:
        return RouteEntry(), RouteEntry(), RouteEntry()
    passes, arrives = leaves + 1, leaves + 2
    step = _ring_step(index, count)
    out = RouteEntry(
        ramp, frozenset([ports[step > 0]]), color=passes if abs(step) == 2 else arrives
    )
    through = RouteEntry()
    for start in (index - 1, index + 1):
        if start in range(count) and _ring_step(start, count) == 2 * (index - start):
            before, behind = ports if start < index else ports[::-1]
            through = RouteEntry(frozenset([before]), frozenset([behind]), color=arrives)
    source = next(n for n in range(count) if n + _ring_step(n, count) == index)
    into = RouteEntry(frozenset([ports[source > index]]), ramp, color=arrives)
    return out, through, into


def shift_routes(row: int, column: int, size: int) -> list[RouteEntry]:
    """Return the routes of a tile by color, but for READ, which is set when results are read."""
    return [
        load_route(column, size),
        RouteEntry(),
        *_shift(column, size, _ROW, ShiftColor.X_LEAVES),
        *_shift(row, size, _COLUMN, ShiftColor.W_LEAVES),
    ]


def _broadcast(
    index: int, count: int, owner: int, ports: tuple[Port, Port], color: int
) -> RouteEntry:
    before = index > 0 and index <= owner
    behind = index + 1 < count and index >= owner
    onward = {port for port, goes in zip(ports, (before, behind), strict=True) if goes}
    source = Port.RAMP if index == owner else ports[owner > index]
    return RouteEntry(frozenset([source]), frozenset({*onward, Port.RAMP}), color=color)


def broadcast_routes(row: int, column: int, rows: int, columns: int) -> list[RouteEntry]:
    """Return the routes of a tile by color, but for READ, which is set when results are read."""
    first = BroadcastColor.FIRST
    return [
        load_route(column, columns),
        RouteEntry(),
        *(_broadcast(column, columns, c, _ROW, first + c) for c in range(columns)),
        *(_broadcast(row, rows, r, _COLUMN, first + columns + r) for r in range(rows)),
    ]
