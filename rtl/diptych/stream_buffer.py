# SPDX-License-Identifier: BSD-2-Clause
"""A stream buffer that cuts every combinational path."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Passes a stream on, with registers between its two ends in both directions.

    Each payload comes out once and in order. Neither ``o.valid`` nor ``o.payload`` depends
    combinationally on ``i``, and ``i.ready`` does not depend combinationally on ``o.ready``.

    The latency is one cycle. The throughput is one payload per cycle, also when the consumer
    stalls and resumes. The buffer holds two payloads: one leaving, and one that was under way
    when the consumer stalled.

    Parameters
    ----------
    shape : :class:`ShapeLike`
        Shape of the payload.

    Members
    -------
    i : :py:`In(stream.Signature(shape))`
        Payloads.
    o : :py:`Out(stream.Signature(shape))`
        The same payloads.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        spare = Signal(self.shape)
        spare_valid = Signal()
        m.d.comb += self.i.ready.eq(~spare_valid)

        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.payload.eq(Mux(spare_valid, spare, self.i.payload)),
                self.o.valid.eq(spare_valid | self.i.valid),
                spare_valid.eq(0),
            ]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [spare.eq(self.i.payload), spare_valid.eq(1)]

        return m
