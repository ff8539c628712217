# SPDX-License-Identifier: BSD-2-Clause
"""The systolic array: rows of activations times a tile of weights."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.config import ACTIVATION_BITS
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
    """Weight-stationary array: rows of activations times a tile of weights, with shadow weights.

    The sums of the activations of one cycle come ``rows + columns - 1`` cycles later: for each
    column the sum over rows of activation times weight, modulo 2**32. Each cycle takes a row of
    activations and, independently of it, lines of the next (shadow) tile: a row (from the north),
    with ``w_west`` a column (from the west), or with ``w_group`` as many rows as ``weight_rows``,
    in any order. There is no backpressure; the user of the sums tracks the cycles with activations.

    For groups the array is cut into ``weight_rows`` parts, one under the other, and weights enter
    each of them at its top: rows of a group lie in different parts.

    ``swap`` makes the next tile the current one, for the activations of later cycles. It covers
    the lines of earlier cycles; a line of the same cycle already belongs to the tile after.
    A tile that is used for as long as its successor loads costs no extra cycle.

    Parameters
    ----------
    rows, columns : :class:`int`
        Extent R x C; powers of two from 4 to 128.
    weight_rows : :class:`int`
        Rows of weights in a group: 1, 2 or 4.

    Members
    -------
    x : :py:`In(ArrayLayout(signed(12), rows))`
        Activations, one for each row of weights.
    swap : :py:`In(1)`
        The next tile becomes current.
    w_valid, w_west, w_group : :py:`In(1)`
        Lines of the next tile arrive; they are a column; they are a group of rows.
    w_index : :py:`In(ceil_log2(max(rows, columns)))`
        Number of that row or column, or of the first row, a multiple of ``weight_rows``.
    w : :py:`In(ArrayLayout(signed(8), weight_rows * max(rows, columns)))`
        Weights: a line of ``max(rows, columns)`` elements for each row, of which the first
        ``columns`` (``rows`` for a column) count; but for a group, the first line only.
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
    w_group: Signal
    w_index: Signal
    w: Any
    sums: Any

    def __init__(self, *, rows: int = 16, columns: int = 16, weight_rows: int = 1) -> None:
        check_extent(rows=rows, columns=columns)
        if weight_rows not in (1, 2, 4):
            raise ValueError(f"Weight rows must be 1, 2 or 4, not {weight_rows!r}")
        self.weight_rows = weight_rows
        self.rows = rows
        self.columns = columns
        line = max(rows, columns)
        self._row = ProcessingRow(columns=columns)
        super().__init__(
            {
                "x": In(data.ArrayLayout(signed(ACTIVATION_BITS), rows)),
                "swap": In(1),
                "w_valid": In(1),
                "w_west": In(1),
                "w_group": In(1),
                "w_index": In(ceil_log2(line)),
                "w": In(data.ArrayLayout(signed(8), weight_rows * line)),
                "sums": Out(data.ArrayLayout(signed(32), columns)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, columns = self.rows, self.columns

        parts, line = self.weight_rows, max(rows, columns)
        high = rows // parts  # rows of a part
        # Row n of a group is in part n; order[p] is the row of the tile in place p.
        order = [place % high * parts + place // high for place in range(rows)]

        chosen = Signal(line)
        grouped = Signal(rows)
        row_hits = Signal(rows)
        column_hits = Signal(columns)
        west = Signal(columns)
        m.d.comb += [
            chosen.eq(Const(1, 1) << self.w_index),
            grouped.eq(
                Cat(Mux(self.w_group, chosen[row // parts * parts], chosen[row]) for row in order)
            ),
            row_hits.eq(grouped & (self.w_valid & ~self.w_west).replicate(rows)),
            column_hits.eq(chosen & (self.w_valid & self.w_west).replicate(columns)),
            west.eq(self.w_west.replicate(columns)),
        ]
        weights = Value.cast(self.w)
        swaps = skew(m, "swap_skew", self.swap.replicate(rows), 1)
        hits = skew(m, "hit_skew", row_hits, 1)
        if parts == 1:
            x = skew(m, "x_skew", Value.cast(self.x), ACTIVATION_BITS)
            items = skew(m, "w_skew", weights, 8)
            tops = [Cat(items[:columns])]
        else:
            x = skew(
                m, "x_skew", _ordered(Value.cast(self.x), order, ACTIVATION_BITS), ACTIVATION_BITS
            )
            items = skew(m, "w_skew", _ordered(weights, order, 8), 8)
            tops = []
            for part in range(parts):
                first = weights[: 8 * columns]
                own = weights[8 * line * part :][: 8 * columns]
                entering: Value = Mux(self.w_group, own, first)
                for stage in range(part * high):
                    after = Signal(8 * columns, name=f"top_{part}_{stage}", reset_less=True)
                    m.d.sync += after.eq(entering)
                    entering = after
                tops.append(Cat(skew(m, f"top_{part}_skew", entering, 8)))

        north_sums: Value = Const(0, 32 * columns)
        north_items: Value = tops[0]
        north_west: Value = Cat(skew(m, "west_skew", west, 1))
        north_hits: Value = Cat(skew(m, "column_hit_skew", column_hits, 1))
        for r in range(rows):
            row: Any = Precompiled(self._row, f"processing_row_{columns}")
            m.submodules[f"row_{r}"] = row
            if r % high == 0:
                north_items = tops[r // high]
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


def _ordered(vector: Value, order: list[int], width: int) -> Value:
    """Return the elements of a vector in another order."""
    return Cat(vector[width * n : width * (n + 1)] for n in order)
