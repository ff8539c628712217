# SPDX-License-Identifier: BSD-2-Clause
"""Reads the counters of all tiles of a mesh."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from diptych_tb.mesh.watchdog import tile_bodies

__all__ = ["MeshCounters"]


class MeshCounters:
    """The counters of a mesh's tiles; looking them up once makes reading them ten times cheaper.

    Parameters
    ----------
    mesh : HierarchyObject
        The mesh, with ``count_*`` of its tiles public.
    rows, columns : int
        Its size.
    core, router : sequence of str
        Names of the counters, without ``count_``.
    """

    def __init__(
        self,
        mesh: Any,
        rows: int,
        columns: int,
        *,
        core: Sequence[str],
        router: Sequence[str],
    ) -> None:
        self.names = (*core, *router)
        self.bodies = list(tile_bodies(mesh, rows, columns).values())
        self._handles = [
            getattr(part, f"count_{name}")
            for body in self.bodies
            for part, names in ((body.core, core), (body.router, router))
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
