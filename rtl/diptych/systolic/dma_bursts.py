# SPDX-License-Identifier: BSD-2-Clause
"""Splits rows of beats into the bursts that AXI4 allows."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES, MAX_BEATS, PAGE_BYTES

__all__ = ["Burst", "BurstSplitter", "Row"]

BEAT_BITS = ceil_log2(BEAT_BYTES)
PAGE_BEATS = PAGE_BYTES // BEAT_BYTES


class Row(data.StructLayout):
    """``beats`` beats from the HBM address ``at`` on; ``last`` of its command."""

    def __init__(self) -> None:
        super().__init__({"at": 32, "beats": 16, "last": 1})


class Burst(data.StructLayout):
    """A burst of ``length + 1`` beats; ``last`` of its command."""

    def __init__(self) -> None:
        super().__init__({"at": 32, "length": 8, "last": 1})


class BurstSplitter(wiring.Component):
    """Splits rows at pages, and into bursts of at most :data:`.MAX_BEATS` beats.

    The latency is 2 cycles. The throughput is a burst per cycle; where another burst of the same
    row follows, that one comes 2 cycles later. ``o`` is a register.

    Members
    -------
    i : :py:`In(stream.Signature(Row()))`
        Rows of at least one beat.
    o : :py:`Out(stream.Signature(Burst()))`
        Bursts.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(Row())), "o": Out(stream.Signature(Burst()))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        row: Any = Signal(Row(), reset_less=True)  # what is left of it
        splits, goes_on = Signal(), Signal()  # what is left is a burst behind
        to_page = Signal(range(PAGE_BEATS + 1))
        length = Signal(range(MAX_BEATS + 1))
        beats = Signal(range(MAX_BEATS + 1))
        before = Signal.like(beats, reset_less=True)
        asks, ends = Signal(), Signal()
        m.d.comb += [
            to_page.eq(PAGE_BEATS - row.at[BEAT_BITS : ceil_log2(PAGE_BYTES)]),
            length.eq(Mux(row.beats < MAX_BEATS, row.beats, MAX_BEATS)),
            beats.eq(Mux(length < to_page, length, to_page)),
            ends.eq((row.beats <= MAX_BEATS) & (length <= to_page)),
            asks.eq(splits & ~goes_on & (~self.o.valid | self.o.ready)),
            self.i.ready.eq(~splits | (asks & ends)),
        ]
        with m.If(asks):
            m.d.sync += [
                self.o.p.at.eq(row.at),
                self.o.p.length.eq(beats - 1),
                self.o.p.last.eq(row.last & ends),
                self.o.valid.eq(1),
                before.eq(beats),
                goes_on.eq(~ends),
                splits.eq(~ends),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(goes_on):
            m.d.sync += [
                row.at.eq(row.at + (before << BEAT_BITS)),
                row.beats.eq(row.beats - before),
                goes_on.eq(0),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [row.eq(self.i.p), splits.eq(1)]
        return m
