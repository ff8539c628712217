# SPDX-License-Identifier: BSD-2-Clause
"""The block under test: a running sum over a stream."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Element", "RunningSum"]


class Element(data.StructLayout):
    """An input: 16 bits of value, and whether it is the last of its row."""

    def __init__(self) -> None:
        super().__init__({"value": 16, "last": 1})


class RunningSum(wiring.Component):
    """Adds up the values of each row, modulo 2**32.

    Each input yields one output, in order. The latency is one cycle; the throughput is one
    element per cycle, also when the consumer stalls and resumes.

    Members
    -------
    i : :py:`In(stream.Signature(Element()))`
        Values.
    o : :py:`Out(stream.Signature(32))`
        Sum of the row up to and including the value.
    """

    i: Any
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(Element())), "o": Out(stream.Signature(32))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        total = Signal(32)
        following = Signal(32)
        m.d.comb += [
            following.eq(total + self.i.payload.value),
            self.i.ready.eq(~self.o.valid | self.o.ready),
        ]
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += self.o.payload.eq(following)
                m.d.sync += total.eq(following)
                with m.If(self.i.payload.last):
                    m.d.sync += total.eq(0)
        return m
