# SPDX-License-Identifier: BSD-2-Clause
"""Reads the counters of all tiles of a mesh."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from diptych.mesh.tile import CORE_COUNTERS, ROUTER_COUNTERS
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.signal_handles import lane_tiles

__all__ = ["LaneCounters", "MeshCounters"]

SIGNS = (("core", "instructions"), ("core", "computing"), ("router", "ramp"))
"""Counters that show progress: an instruction that receives for long computes nothing."""


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
        self._busy = [body.core.watch_busy for body in self.bodies]
        self._signs = [
            getattr(getattr(body, part), f"count_{name}")
            for body in self.bodies
            for part, name in SIGNS
        ]

    def busy(self) -> bool:
        """Return whether a tile is busy."""
        return any(busy.value for busy in self._busy)

    def progress(self) -> list[int]:
        """Return numbers of which one grows if a tile makes progress."""
        return [int(sign.value) for sign in self._signs]

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


class LaneCounters(MeshCounters):
    """Those of a mesh on lanes, whose tiles are read at once.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh.
    """

    def __init__(self, mesh: LaneMesh) -> None:
        self.bodies = list(lane_tiles(mesh).values())
        self._mesh = mesh

    def count(self, name: str, part: str = "core") -> np.ndarray:
        """Return a counter of a part of every tile, row by row, as it is now."""
        return self._mesh.register(f"{part}.count_{name}").reshape(-1).astype(np.int64)

    def busy(self) -> bool:
        return bool(self._mesh.register("core.watch_busy").any())

    def progress(self) -> list[int]:
        return np.concatenate([self.count(name, part) for part, name in SIGNS]).tolist()

    def read(self) -> array[int]:
        parts = [("core", CORE_COUNTERS), ("router", ROUTER_COUNTERS)]
        rows = [self.count(name, part) for part, names in parts for name in names]
        return array("I", np.stack(rows, axis=1).astype(np.uint32).tobytes())
