# SPDX-License-Identifier: BSD-2-Clause
"""Tiles of a mesh on lanes, with names as a simulator's handles have them."""

from __future__ import annotations

from dataclasses import dataclass

from .mesh import LaneMesh

__all__ = ["LaneHandle", "LaneTile", "lane_tiles"]


@dataclass(frozen=True, slots=True)
class LaneHandle:
    """A register of a tile; ``value`` is what it holds now."""

    mesh: LaneMesh
    name: str
    row: int
    column: int

    @property
    def value(self) -> int:
        return self.mesh.value(self.name, self.row, self.column)


@dataclass(frozen=True, slots=True)
class _Part:
    """A module in a tile; registers are its attributes."""

    tile: LaneTile
    name: str

    def __getattr__(self, register: str) -> LaneHandle:
        tile = self.tile
        return LaneHandle(tile.mesh, f"{self.name}.{register}", tile.row, tile.column)

    def __getitem__(self, register: str) -> LaneHandle:
        return getattr(self, register)


@dataclass(frozen=True, slots=True)
class LaneTile:
    """A tile; its modules are its attributes."""

    mesh: LaneMesh
    row: int
    column: int

    @property
    def core(self) -> _Part:
        return _Part(self, "core")

    @property
    def router(self) -> _Part:
        return _Part(self, "router")


def lane_tiles(mesh: LaneMesh) -> dict[tuple[int, int], LaneTile]:
    """Return all tiles by row and column."""
    places = [(row, column) for row in range(mesh.rows) for column in range(mesh.columns)]
    return {place: LaneTile(mesh, *place) for place in places}
