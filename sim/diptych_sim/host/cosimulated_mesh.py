# SPDX-License-Identifier: BSD-2-Clause
"""A mesh on lanes beside everything else, in a simulator or in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.engine.lanes.cosim_ports import Pins, SimulatorShell
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.signal_handles import lane_tiles
from diptych_sim.engine.lanes.sram import write_sram
from diptych_sim.engine.lanes.tiling import tile_in_parts, tile_in_rows
from diptych_sim.engine.lanes.waveforms import record_tiles

__all__ = ["CosimulatedMesh"]


_WEST = (
    *(f"credits_west.{name}" for name in ("free_1", "free_2", "free_4", "free_8", "draining")),
    *(f"input_west.{name}" for name in ("held", "link__credit", "passes_0")),
    *(f"west_o__{name}" for name in ("announced", "valid")),
)
"""Registers of a router that are as at reset when its west links are at rest."""


class CosimulatedMesh:
    """A mesh on lanes, reset, behind the shell that a design has in its place.

    Its tiles are found by name, as those of a mesh in a simulator.

    Attributes
    ----------
    mesh : LaneMesh
        The mesh.

    Parameters
    ----------
    shell : HierarchyObject
        What stands for the mesh.
    rows, columns : int
        Size of the mesh.
    image : array, optional
        As of :class:`.MeshJob`.
    in_rows : bool
        Whether words come along rows at first, until :meth:`keep_near`: on an engine of words the
        tiles of a row then share parts of lanes, which is faster.
    **parameters : int
        As of :class:`.LaneMesh`.
    """

    def __init__(
        self,
        shell: Any,
        rows: int,
        columns: int,
        *,
        image: NDArray[np.uint32] | None = None,
        in_rows: bool = False,
        **parameters: Any,
    ) -> None:
        outside = getattr(shell, "outside", None)
        self._shell, self._outside = shell, outside or SimulatorShell()
        self._in_rows = in_rows and outside is not None
        tiling = tile_in_rows(rows, columns) if self._in_rows else None
        self.mesh = mesh = LaneMesh(rows, columns, tiling=tiling, **parameters)
        mesh.reset()
        if image is not None:
            write_sram(mesh, image)
        self._at_reset = self._west()
        self._tiles = lane_tiles(mesh)
        self._watched: list[tuple[str, int, int]] = []
        self._pins = Pins(mesh, self._outside)
        record_tiles(mesh, shell._path)

    def keep_near(self) -> None:
        """Say that words come along rows no more: tiles that are near then share parts of lanes."""
        tiling = tile_in_parts(self.mesh.rows, self.mesh.columns)
        if not self._in_rows or tiling == self.mesh.tiling:
            return
        self._in_rows = False
        self.mesh.lay_out(tiling)
        self._pins.close()
        self._pins = Pins(self.mesh, self._outside)
        for place in self._watched:
            self._pins.watch(*place)

    def close(self) -> None:
        """Free the mesh, once there are no more cycles."""
        self._pins.close()
        self.mesh.close()

    def _west(self) -> list[Any]:
        return [self.mesh.register(f"router.{name}")[:, 0].tolist() for name in _WEST]

    def at_rest(self) -> bool:
        """Return whether nothing is on its way between the mesh and its host ports."""
        return self._west() == self._at_reset

    def __getitem__(self, name: str) -> SimpleNamespace:
        _, row, column = name.split("_")
        body = self._tiles[int(row), int(column)]
        return SimpleNamespace(shared_tile=SimpleNamespace(body=body))

    def signal(self, name: str, row: int, column: int) -> Any:
        """Return a handle that follows a register of a tile; there is one."""
        self._watched.append((name, row, column))
        self._pins.watch(name, row, column)
        return self._shell.watched
