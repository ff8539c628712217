# SPDX-License-Identifier: BSD-2-Clause
"""A row of processing elements."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.config import ACTIVATION_BITS

__all__ = ["ProcessingRow"]


class ProcessingRow(wiring.Component):
    """One row of the array: each element multiplies by its weight and adds to the sum from above.

    Everything moves one element a cycle: activations and ``swap`` east, sums south; weights on
    their way (*items*) south or, where ``west`` is set, east. Values that entered together are at
    the element in row r, column c after r + c cycles, in diagonal wavefronts. An element takes the
    item that passes with its ``hit`` as its next (shadow) weight, and a ``swap`` makes it
    the current weight, for the activations that follow the swap.

    Parameters
    ----------
    columns : :class:`int`
        Elements; at least 2.

    Members
    -------
    x : :py:`In(signed(12))`
        Activation that enters the row.
    swap, hit : :py:`In(1)`
        Elements swap, and take the item, as the wavefront passes.
    item : :py:`In(8)`
        Item that enters from the west.
    north_sums, north_items : :py:`In(32 * columns)`, :py:`In(8 * columns)`
        From the row above: sums and items.
    north_west, north_hits : :py:`In(columns)`
        From the row above: a bit per element: its item comes from the west; it takes the item.
    sums, items : :py:`Out(32 * columns)`, :py:`Out(8 * columns)`
        To the row below: sums and items, a cycle later.
    west, hits : :py:`Out(columns)`
        To the row below: the bits of ``north_west`` and ``north_hits``, a cycle later.

    Raises
    ------
    ValueError
        If the number of columns is out of range.
    """

    x: Signal
    swap: Signal
    hit: Signal
    item: Signal
    north_sums: Signal
    north_items: Signal
    north_west: Signal
    north_hits: Signal
    sums: Signal
    items: Signal
    west: Signal
    hits: Signal

    def __init__(self, *, columns: int) -> None:
        if columns < 2:
            raise ValueError(f"Columns must be at least 2, not {columns!r}")
        self.columns = columns
        passing = {"sums": 32, "items": 8, "west": 1, "hits": 1}
        super().__init__(
            {
                "x": In(signed(ACTIVATION_BITS)),
                "swap": In(1),
                "hit": In(1),
                "item": In(8),
                **{f"north_{name}": In(bits * columns) for name, bits in passing.items()},
                **{name: Out(bits * columns) for name, bits in passing.items()},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        columns = self.columns
        swaps = Signal(columns)
        hits = Signal(columns)
        swapped = Signal(columns - 1)
        hit = Signal(columns - 1)
        m.d.comb += [
            swaps.eq(Cat(self.swap, swapped)),
            hits.eq(Cat(self.hit, hit) | self.north_hits),
        ]
        m.d.sync += [
            swapped.eq(swaps),
            hit.eq(Cat(self.hit, hit)),
            self.west.eq(self.north_west),
            self.hits.eq(self.north_hits),
        ]
        x = self.x
        item_before = self.item
        sums = []
        items = []
        for c in range(columns):
            item_in = Signal(8, name=f"item_in_{c}")
            item = Signal(8, name=f"item_{c}", reset_less=True)
            following = Signal(signed(8), name=f"following_{c}", reset_less=True)
            weight = Signal(signed(8), name=f"weight_{c}", reset_less=True)
            x_out = Signal(signed(ACTIVATION_BITS), name=f"x_{c}", reset_less=True)
            total = Signal(32, name=f"sum_{c}", reset_less=True)
            m.d.comb += item_in.eq(
                Mux(self.north_west[c], item_before, self.north_items[8 * c : 8 * c + 8])
            )
            m.d.sync += [
                item.eq(item_in),
                x_out.eq(x),
                total.eq(self.north_sums[32 * c : 32 * c + 32] + x * weight),
            ]
            with m.If(hits[c]):
                m.d.sync += following.eq(item_in)
            with m.If(swaps[c]):
                m.d.sync += weight.eq(following)
            x, item_before = x_out, item
            sums.append(total)
            items.append(item)
        m.d.comb += [self.sums.eq(Cat(sums)), self.items.eq(Cat(items))]
        return m
