# SPDX-License-Identifier: BSD-2-Clause
"""How the positions of a context are dealt to the rows of a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["PositionDeal"]

Number = TypeVar("Number", int, NDArray[np.int64])


@dataclass(frozen=True)
class PositionDeal:
    """Positions of rows: ``block`` neighbors to each, from the middle row on.

    Reductions along columns meet in row ``rows // 2``, which has the first block. Then come the row before
    it, the one behind it, the second one before it, and so on; when all have a block, the middle row
    has the next one. So the rows that hold a context which is short are near each other.

    Attributes
    ----------
    rows : int
        Rows of the mesh.
    block : int
        A power of two.
    """

    rows: int
    block: int = 1

    @property
    def turns(self) -> int:
        """Positions until a row is due again."""
        return self.rows * self.block

    def row(self, position: Number) -> Number:
        """Return the row that holds a position."""
        turn = position // self.block % self.rows
        return self.rows // 2 + (turn + 1) // 2 * (1 - 2 * (turn % 2))

    def slot(self, position: Number) -> Number:
        """Return where its row holds a position: how many it holds before."""
        return position // self.turns * self.block + position % self.block

    def held(self, row: int, positions: int) -> int:
        """Return how many of the first ``positions`` a row holds."""
        rounds, rest = divmod(positions, self.turns)
        return rounds * self.block + min(self.block, max(0, rest - self._first(row)))

    def due(self, row: int, positions: int) -> int:
        """Return how many positions behind the first ``positions`` come before the row's next one."""
        first, now = self._first(row), positions % self.turns
        return 0 if first <= now < first + self.block else (first - now) % self.turns

    def reach(self, positions: int) -> int:
        """Return how far from the middle row the rows are that hold the first ``positions``."""
        return min(self.rows, -(-positions // self.block)) // 2

    def _first(self, row: int) -> int:
        """Return the first position that a row holds."""
        apart = row - self.rows // 2
        return (2 * apart if apart >= 0 else -2 * apart - 1) * self.block
