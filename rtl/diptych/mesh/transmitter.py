# SPDX-License-Identifier: BSD-2-Clause
"""Transmitter of a tile: executes TRANSMIT in the background."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .fabric import COLOR_BITS, DATA_BITS, Wavelet
from .operation import ADDRESS_BITS, VectorOperation
from .sram import WORD_ADDRESS_BITS, ReadPort

__all__ = ["Transmitter"]


class Span(data.StructLayout):
    """Words of the SRAM to be sent: address, number, color."""

    def __init__(self) -> None:
        super().__init__({"address": ADDRESS_BITS, "left": 16, "color": COLOR_BITS})


class Transmitter(wiring.Component):
    """Executes TRANSMIT (:class:`.Op`), with a queue of two instructions.

    A word per cycle, unless it waits for the SRAM, the ramp or a credit, and a cycle more behind a
    first word that is the second half of a memory word, and between instructions; the first word is
    sent 2 cycles after the instruction was taken.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    i : :py:`In(stream.Signature(VectorOperation()))`
        Instructions.
    read : :py:`Out(ReadPort())`
        Reads the SRAM.
    o, sends_as : :py:`Out(stream.Signature(Wavelet()))`, :py:`Out(colors)`
        Wavelets; the bit of their color.
    busy : :py:`Out(1)`
        An instruction is active or queued.
    """

    i: stream.Interface
    read: Any
    o: stream.Interface
    sends_as: Signal
    busy: Signal

    def __init__(self, *, colors: int) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(VectorOperation())),
                "read": Out(ReadPort()),
                "o": Out(stream.Signature(Wavelet())),
                "sends_as": Out(colors),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        now, after = Signal(Span(), name="now"), Signal(Span(), name="after")
        active, queued = Signal(name="active"), Signal(name="queued")
        # The read port shows the word at the address; its second half is kept, so that the next
        # word may be read.
        shown, kept = Signal(name="shown"), Signal(name="kept")
        second = Signal(DATA_BITS, reset_less=True)
        sends, ends = Signal(name="sends"), Signal(name="ends")
        # None is left; one is.
        none, last = Signal(name="none"), Signal(name="last")
        # A word is asked for, if one is left: found in the cycle before.
        asks, asked = Signal(name="asks"), Signal(WORD_ADDRESS_BITS, name="asked")
        granted, asks_behind, asks_still = (
            Signal(name=name) for name in ("granted", "asks_behind", "asks_still")
        )
        half = now.address[2]
        m.d.comb += [
            self.busy.eq(active | queued),
            self.i.ready.eq(~queued),
            self.o.valid.eq(active & (shown | kept) & ~none),
            self.o.payload.data.eq(Mux(kept, second, self.read.data.word_select(half, DATA_BITS))),
            self.o.payload.color.eq(now.color),
            sends.eq(self.o.valid & self.o.ready),
            ends.eq(active & (none | (sends & last))),
            self.read.valid.eq(asks & ~none),
            self.read.address.eq(asked),
            granted.eq(self.read.valid & self.read.ready),
            # While the second half is kept, the word behind it. Whether one is sent is known late.
            asks_behind.eq(~granted & ~last & Mux(kept, ~shown, half | (now.left != 2))),
            asks_still.eq(~granted & ~shown & ~none & ~(kept & last)),
        ]
        m.d.sync += [
            shown.eq(granted | (shown & (kept | ~sends))),
            kept.eq(Mux(kept, ~sends, sends & ~half)),
            asks.eq(active & Mux(sends, asks_behind, asks_still)),
        ]
        with m.If(granted):
            m.d.sync += asked.eq(asked + 1)
        with m.If(~kept):
            m.d.sync += second.eq(self.read.data[DATA_BITS:])
        with m.If(sends):
            m.d.sync += [
                now.address.eq(now.address + 4),
                now.left.eq(now.left - 1),
                none.eq(last),
                last.eq(now.left == 2),
            ]
        load, coming = Signal(name="load"), Signal(Span(), name="coming")
        m.d.comb += load.eq((~active | ends) & (queued | self.i.valid))
        m.d.comb += [
            coming.address.eq(Mux(queued, after.address, self.i.payload.a)),
            coming.left.eq(Mux(queued, after.left, self.i.payload.count)),
            coming.color.eq(Mux(queued, after.color, self.i.payload.tail.color)),
        ]
        with m.If(ends):
            m.d.sync += [active.eq(0), shown.eq(0), kept.eq(0)]
        with m.If(load):
            m.d.sync += [
                now.eq(coming),
                none.eq(coming.left == 0),
                last.eq(coming.left == 1),
                asks.eq(1),
                asked.eq(coming.address[3:]),
                self.sends_as.eq(1 << coming.color),
                active.eq(1),
                queued.eq(0),
            ]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [
                queued.eq(1),
                after.address.eq(self.i.payload.a),
                after.left.eq(self.i.payload.count),
                after.color.eq(self.i.payload.tail.color),
            ]
        return m
