# SPDX-License-Identifier: BSD-2-Clause
"""The systolic array: rows of activations times a tile of weights."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.precompiled import Precompiled

from .pe import ProcessingRow
from .skew import deskew, skew

__all__ = ["SystolicArray", "check_extent"]


def check_extent(*, rows: int, columns: int) -> None:
    """Raise ValueError unless an array of this extent can be built."""
    for what, number in (("Array rows", rows), ("Array columns", columns)):
        if number not in (4, 8, 16, 32, 64, 128):
            raise ValueError(f"{what} must be a power of two from 4 to 128, not {number!r}")


class SystolicArray(wiring.Component):
    """Rows of activations times a tile of weights that stays, with the next tile behind it.

    The sums of the activations of one cycle come ``rows + columns - 1`` cycles later: for each
    column the sum over rows of activation times weight, modulo 2**32. Each cycle takes a row of
    activations and, independently of it, a line of the next tile: a row (from the north) or, with
    ``w_west``, a column (from the west), in any order. Nothing ever stalls; who uses the sums has
    to know which cycles had activations.

    ``swap`` makes the next tile the current one, for the activations of later cycles. It covers
    the lines of earlier cycles; a line of the same cycle already belongs to the tile after.
    So a tile that lasts as long as it takes to load its successor costs no extra cycle.

    Parameters
    ----------
    rows, columns : :class:`int`
        Extent R x C; powers of two from 4 to 128.

    Members
    -------
    x : :py:`In(ArrayLayout(signed(9), rows))`
        Activations, one for each row of weights.
    swap : :py:`In(1)`
        Whether the next tile becomes current.
    w_valid, w_west : :py:`In(1)`
        Whether a line of the next tile comes, and whether it is a column.
    w_index : :py:`In`
        Number of that row or column.
    w : :py:`In(ArrayLayout(signed(8), max(rows, columns)))`
        Its weights, the first ``columns`` (``rows`` for a column) elements.
    sums : :py:`Out(ArrayLayout(signed(32), columns))`
        Sums.

    Raises
    ------
    ValueError
        If the extent is out of range.
    """

    x: Any
    swap: Signal
    w_valid: Signal
    w_west: Signal
    w_index: Signal
    w: Any
    sums: Any

    def __init__(self, *, rows: int = 16, columns: int = 16) -> None:
        check_extent(rows=rows, columns=columns)
        self.rows = rows
        self.columns = columns
        line = max(rows, columns)
        self._row = ProcessingRow(columns=columns)
        super().__init__(
            {
                "x": In(data.ArrayLayout(signed(9), rows)),
                "swap": In(1),
                "w_valid": In(1),
                "w_west": In(1),
                "w_index": In(ceil_log2(line)),
                "w": In(data.ArrayLayout(signed(8), line)),
                "sums": Out(data.ArrayLayout(signed(32), columns)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, columns = self.rows, self.columns

        chosen = Signal(max(rows, columns))
        row_hits = Signal(rows)
        column_hits = Signal(columns)
        west = Signal(columns)
        m.d.comb += [
            chosen.eq(Const(1, 1) << self.w_index),
            row_hits.eq(chosen & (self.w_valid & ~self.w_west).replicate(rows)),
            column_hits.eq(chosen & (self.w_valid & self.w_west).replicate(columns)),
            west.eq(self.w_west.replicate(columns)),
        ]
        x = skew(m, "x_skew", Value.cast(self.x), 9)
        items = skew(m, "w_skew", Value.cast(self.w), 8)
        swaps = skew(m, "swap_skew", self.swap.replicate(rows), 1)
        hits = skew(m, "hit_skew", row_hits, 1)

        north_sums: Value = Const(0, 32 * columns)
        north_items: Value = Cat(items[:columns])
        north_west: Value = Cat(skew(m, "west_skew", west, 1))
        north_hits: Value = Cat(skew(m, "column_hit_skew", column_hits, 1))
        for r in range(rows):
            row: Any = Precompiled(self._row, f"processing_row_{columns}")
            m.submodules[f"row_{r}"] = row
            m.d.comb += [
                row.x.eq(x[r]),
                row.item.eq(items[r]),
                row.swap.eq(swaps[r]),
                row.hit.eq(hits[r]),
                row.north_sums.eq(north_sums),
                row.north_items.eq(north_items),
                row.north_west.eq(north_west),
                row.north_hits.eq(north_hits),
            ]
            north_sums, north_items = row.sums, row.items
            north_west, north_hits = row.west, row.hits
        sums = [north_sums[32 * c : 32 * c + 32] for c in range(columns)]
        m.d.comb += Value.cast(self.sums).eq(deskew(m, "sum_skew", sums))
        return m
