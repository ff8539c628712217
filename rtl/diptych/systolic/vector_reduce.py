# SPDX-License-Identifier: BSD-2-Clause
"""Reductions of the vector unit: over the lanes of a tile, then over the tiles of a row."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Reducer"]


class Reducer(wiring.Component):
    """Finds the largest score of a row with its position, and sums the row's addends.

    The latency is :attr:`latency` enabled cycles, one for each level of the trees: ``best``
    and ``total`` include the tile that was presented so many enabled cycles ago. The
    throughput is one tile per enabled cycle.

    Parameters
    ----------
    lanes : :class:`int`
        Lanes of a tile; a power of two.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    scores : :py:`In(ArrayLayout(signed(32), lanes))`
        Scores of a tile.
    addends : :py:`In(ArrayLayout(32, lanes))`
        Addends of the tile.
    valid, first, tile : :py:`In(1)`, :py:`In(1)`, :py:`In(16)`
        :attr:`latency` stages after the tile: it was valid; it is the first of its row; its number.
    start_best : :py:`In(signed(32))`
        In the same stage, with the first tile: initial values of the row.
    best : :py:`Out(signed(32))`
        The largest score, or ``start_best``.
    held_where : :py:`Out(32)`
        Number of the first element that has it; 0 if none exceeds ``start_best``. A cycle later than
        ``best``, from registers.
    total : :py:`Out(32)`
        Sum of the addends, modulo 2**32.
    """

    enable: Signal
    scores: data.View
    addends: data.View
    valid: Signal
    first: Signal
    tile: Signal
    start_best: Signal
    best: Signal
    held_where: Signal
    total: Signal

    def __init__(self, *, lanes: int) -> None:
        self.lanes = lanes
        self.latency = ceil_log2(lanes)
        super().__init__(
            {
                "enable": In(1),
                "scores": In(data.ArrayLayout(signed(32), lanes)),
                "addends": In(data.ArrayLayout(32, lanes)),
                "valid": In(1),
                "first": In(1),
                "tile": In(16),
                "start_best": In(signed(32)),
                "best": Out(signed(32)),
                "held_where": Out(32),
                "total": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        tile_best, tile_where = self._largest(m)
        tile_total = self._sum(m)

        row_best = Signal(signed(32), reset_less=True)
        # The place of the best follows a cycle later: the comparison ends in a register.
        older_where = Signal(32, reset_less=True)
        tile_at = Signal(32, reset_less=True)
        exceeded = Signal(reset_less=True)
        began = Signal(reset_less=True)
        row_total = Signal(32, reset_less=True)
        so_far = Signal(signed(32))
        exceeds = Signal()
        m.d.comb += [
            so_far.eq(Mux(self.first, self.start_best, row_best)),
            exceeds.eq(tile_best > so_far),
            self.best.eq(Mux(exceeds, tile_best, so_far)),
            self.held_where.eq(Mux(exceeded, tile_at, Mux(began, 0, older_where))),
            self.total.eq(tile_total + Mux(self.first, 0, row_total)),
        ]
        with m.If(self.enable & self.valid):
            m.d.sync += [
                row_best.eq(self.best),
                row_total.eq(self.total),
                exceeded.eq(exceeds),
                began.eq(self.first),
                tile_at.eq(Cat(tile_where, self.tile)),
                older_where.eq(self.held_where),
            ]
        return m

    def _largest(self, m: Module) -> tuple[Value, Value]:
        """Add a balanced tree, a register for each level; of equals the lower lane wins."""
        values: list[Value] = [self.scores[n] for n in range(self.lanes)]
        places: list[Value] = []
        while len(values) > 1:
            winners: list[Value] = []
            where: list[Value] = []
            for n in range(len(values) // 2):
                a, b = values[2 * n : 2 * n + 2]
                upper = Signal(name=f"upper_{len(values)}_{n}")
                winner = Signal(signed(32), name=f"winner_{len(values)}_{n}", reset_less=True)
                below = Mux(upper, places[2 * n + 1], places[2 * n]) if places else Const(0, 0)
                place = Signal(len(below) + 1, name=f"place_{len(values)}_{n}", reset_less=True)
                m.d.comb += upper.eq(b > a)
                with m.If(self.enable):
                    m.d.sync += [winner.eq(Mux(upper, b, a)), place.eq(Cat(below, upper))]
                winners.append(winner)
                where.append(place)
            values, places = winners, where
        return values[0], places[0]

    def _sum(self, m: Module) -> Value:
        """Add a balanced tree of 32-bit sums, a register for each level."""
        terms: list[Value] = [self.addends[n] for n in range(self.lanes)]
        while len(terms) > 1:
            sums: list[Value] = []
            for n, (a, b) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
                both = Signal(32, name=f"sum_{len(terms)}_{n}", reset_less=True)
                with m.If(self.enable):
                    m.d.sync += both.eq(a + b)
                sums.append(both)
            terms = sums
        return terms[0]
