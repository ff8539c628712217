# SPDX-License-Identifier: BSD-2-Clause
"""Which lane a tile is: parts of a block are rectangles of tiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych_sim.engine.native_library import long_vectors
from diptych_sim.settings import lanes

from .layout import PART

__all__ = ["Tiling", "block_lanes", "tile_in_parts", "tile_in_rows"]


class Tiling(NamedTuple):
    """A mesh in parts of ``height`` x ``width`` tiles, of at most :data:`.PART`.

    What happens on a mesh at once is near: what arrives in a cycle at the tiles of a row is in few
    parts, and so is what arrives at those of a column.
    """

    rows: int
    columns: int
    height: int
    width: int

    @property
    def parts(self) -> int:
        """Parts in all."""
        return -(-self.rows // self.height) * -(-self.columns // self.width)

    @property
    def lanes(self) -> int:
        """Lanes in all; some have no tile."""
        return self.parts * PART

    def lane(self, row: int, column: int) -> int:
        """Return the lane of a tile."""
        return int(self._lanes(np.int64(row), np.int64(column)))

    def all(self) -> NDArray[np.int64]:
        """Return the lanes of all tiles, row by row."""
        return self._lanes(*np.divmod(np.arange(self.rows * self.columns), self.columns))

    def _lanes(self, row: Any, column: Any) -> Any:
        part = row // self.height * -(-self.columns // self.width) + column // self.width
        return part * PART + row % self.height * self.width + column % self.width


def block_lanes(tiles: int) -> int:
    """Return the lanes of a block: more cost less each, unless they are empty.

    A bit of each is one vector at most; two make the code longer than what it saves.
    """
    return lanes() or (64 if tiles <= 128 else 512 if tiles > 1024 and long_vectors() else 256)


def tile_in_rows(rows: int, columns: int) -> Tiling:
    """Return parts of whole rows, or of as much of a row as a part holds.

    What goes along a row is then in the fewest parts.
    """
    width = min(PART, columns)
    return Tiling(rows, columns, min(PART // width, rows), width)


def tile_in_parts(rows: int, columns: int) -> Tiling:
    """Return the fewest parts that hold a mesh, of those the ones that are nearest to squares."""
    tilings = [
        Tiling(rows, columns, height, min(PART // height, columns))
        for height in range(1, min(PART, rows) + 1)
    ]
    return min(tilings, key=lambda t: (t.parts, t.height + t.width))
