# SPDX-License-Identifier: BSD-2-Clause
"""The systolic array."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SystolicArray"]

ACTIVATION = signed(9)
"""int8 or uint8."""


class SystolicArray(wiring.Component):
    """``rows`` x ``columns`` weight-stationary processing elements.

    Element (r, c) multiplies the activation that comes from its west by its weight, adds the sum
    from its north, and passes both on a cycle later. Activations are skewed and sums de-skewed at
    the edges: a row of activations enters in one cycle, and its sums leave together
    :attr:`latency` cycles later. The throughput is a row per cycle.

    Each element has a shadow weight. Shadow weights are shifted in row by row from the north
    (last row first) or column by column from the west (last column first). A row that enters with
    ``swap`` makes every element that it reaches take its shadow weight, from this row on; so the
    shadow weights must stay for :attr:`latency` cycles from then.

    Parameters
    ----------
    rows, columns : :class:`int`
        Size.

    Members
    -------
    enable : :py:`In(1)`
        While low, nothing moves.
    activations : :py:`In(ArrayLayout(signed(9), rows))`
        A row of activations; zeros between rows do no harm.
    swap : :py:`In(1)`
        The row begins with new weights.
    shift_down, north : :py:`In(1)`, :py:`In(ArrayLayout(signed(8), columns))`
        Shifts a row of weights in.
    shift_right, west : :py:`In(1)`, :py:`In(ArrayLayout(signed(8), rows))`
        Shifts a column of weights in.
    sums : :py:`Out(ArrayLayout(signed(32), columns))`
        Sums.
    """

    enable: Signal
    activations: Any
    swap: Signal
    shift_down: Signal
    north: Any
    shift_right: Signal
    west: Any
    sums: Any

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.latency = rows + columns - 1
        super().__init__(
            {
                "enable": In(1),
                "activations": In(data.ArrayLayout(ACTIVATION, rows)),
                "swap": In(1),
                "shift_down": In(1),
                "north": In(data.ArrayLayout(signed(8), columns)),
                "shift_right": In(1),
                "west": In(data.ArrayLayout(signed(8), rows)),
                "sums": Out(data.ArrayLayout(signed(32), columns)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, columns = range(self.rows), range(self.columns)
        shadow = [[Signal(signed(8), name=f"shadow_{r}_{c}") for c in columns] for r in rows]
        weight = [[Signal(signed(8), name=f"weight_{r}_{c}") for c in columns] for r in rows]
        with m.If(self.shift_down):
            for r in rows:
                for c in columns:
                    m.d.sync += shadow[r][c].eq(self.north[c] if r == 0 else shadow[r - 1][c])
        with m.Elif(self.shift_right):
            for r in rows:
                for c in columns:
                    m.d.sync += shadow[r][c].eq(self.west[r] if c == 0 else shadow[r][c - 1])

        with m.If(self.enable):
            above: list[Any] = [Const(0, signed(32)) for _ in columns]
            sums: list[Any] = []
            for r in rows:
                # The activation, and the swap that travels with it, a cycle later in each row.
                passing: Any = Cat(self.activations[r], self.swap)
                for n in range(r):
                    late = Signal(10, name=f"skew_{r}_{n}", reset_less=True)
                    m.d.sync += late.eq(passing)
                    passing = late
                sums = []
                for c in columns:
                    value = passing[:9].as_signed()
                    swaps = passing[9]
                    total = Signal(signed(32), name=f"sum_{r}_{c}", reset_less=True)
                    used = Mux(swaps, shadow[r][c], weight[r][c])
                    m.d.sync += total.eq(above[c] + value * used)
                    with m.If(swaps):
                        m.d.sync += weight[r][c].eq(shadow[r][c])
                    if c + 1 < self.columns:
                        late = Signal(10, name=f"activation_{r}_{c}", reset_less=True)
                        m.d.sync += late.eq(passing)
                        passing = late
                    sums.append(total)
                above = sums
            leaving: list[Any] = []
            for c in columns:
                total = sums[c]
                for n in range(self.columns - 1 - c):
                    late = Signal(signed(32), name=f"deskew_{c}_{n}", reset_less=True)
                    m.d.sync += late.eq(total)
                    total = late
                leaving.append(total)
        m.d.comb += [self.sums[c].eq(leaving[c]) for c in columns]
        return m
