# SPDX-License-Identifier: BSD-2-Clause
"""Moves tiles from lanes to other lanes, with all that they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .interface import Interface
from .layout import Element

__all__ = ["move_tiles"]

_AT_ONCE = 1 << 25
"""Bytes of a memory that are moved at once, about."""


def move_tiles(
    interface: Interface,
    source: memoryview,
    source_lanes: NDArray[np.int64],
    target: memoryview,
    target_lanes: NDArray[np.int64],
) -> None:
    """Copy the state of tiles.

    Parameters
    ----------
    interface : Interface
        Of the tile.
    source, target : memoryview
        State of all blocks.
    source_lanes, target_lanes : array of int
        The lane of each tile; lanes without a tile are left as they are.
    """
    layout = interface.layout
    old, new = (
        np.frombuffer(part, np.uint8).reshape(-1, layout.bytes) for part in (source, target)
    )

    def move(place: Element, depth: int) -> None:
        step = layout.step(place.size)
        most = max(1, _AT_ONCE // (step * len(new)))
        for first in range(0, depth, most):
            rows = min(most, depth - first)
            span = slice(place.offset + first * step, place.offset + (first + rows) * step)
            found = _by_lane(old[:, span], rows, place.size)
            to = _by_lane(new[:, span], rows, place.size)
            to[:, target_lanes] = found[:, source_lanes]
            new[:, span] = _by_block(to, len(new), place.size)

    for place in layout.nodes.values():
        move(place, 1)
    for memory, places in layout.memories.items():
        for place in places:
            move(place, interface.memories[memory].depth)


def _by_lane(part: NDArray[np.uint8], rows: int, size: int) -> NDArray[Any]:
    """Return elements [rows, lanes] of what blocks hold, a copy."""
    data = np.ascontiguousarray(part).reshape(len(part), rows, -1)
    found = data.view(f"<u{size}") if size else np.unpackbits(data, axis=2, bitorder="little")
    return np.ascontiguousarray(found.transpose(1, 0, 2)).reshape(rows, -1)


def _by_block(data: NDArray[Any], blocks: int, size: int) -> NDArray[np.uint8]:
    """Return what blocks hold of elements [rows, lanes]."""
    parts = np.ascontiguousarray(data.reshape(len(data), blocks, -1).transpose(1, 0, 2))
    if size == 0:
        return np.packbits(parts, axis=2, bitorder="little").reshape(blocks, -1)
    return parts.view(np.uint8).reshape(blocks, -1)
