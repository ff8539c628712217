# SPDX-License-Identifier: BSD-2-Clause
"""Two managers on one AXI4 port."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import ReadChannels

__all__ = ["ReadArbiter"]


class ReadArbiter(wiring.Component):
    """Arbitrates the reads of two managers, and returns each beat to the manager that requested it.

    ``first`` has priority, but a request stays valid until it is accepted. The arbiter adds no
    latency. A manager that does not accept its beats blocks those of the other one.

    Members
    -------
    first, second : :py:`In(ReadChannels())`
        Ports of the managers; their ids are replaced.
    axi : :py:`Out(ReadChannels())`
        Port of the memory; ``id`` is 0 for the first, 1 for the second.
    """

    first: Any
    second: Any
    axi: Any

    def __init__(self) -> None:
        super().__init__(
            {"first": In(ReadChannels()), "second": In(ReadChannels()), "axi": Out(ReadChannels())}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ar, r = self.axi.ar, self.axi.r
        one, two = self.first, self.second

        waits, kept, chosen = Signal(), Signal(), Signal()
        m.d.comb += [
            chosen.eq(Mux(waits, kept, ~one.ar.valid)),
            ar.valid.eq(Mux(chosen, two.ar.valid, one.ar.valid)),
            ar.payload.addr.eq(Mux(chosen, two.ar.payload.addr, one.ar.payload.addr)),
            ar.payload.len.eq(Mux(chosen, two.ar.payload.len, one.ar.payload.len)),
            ar.payload.id.eq(chosen),
            one.ar.ready.eq(ar.ready & ~chosen),
            two.ar.ready.eq(ar.ready & chosen),
        ]
        m.d.sync += [waits.eq(ar.valid & ~ar.ready), kept.eq(chosen)]

        for_two = Signal()
        m.d.comb += [
            for_two.eq(r.payload.id[0]),
            one.r.payload.eq(r.payload),
            two.r.payload.eq(r.payload),
            one.r.valid.eq(r.valid & ~for_two),
            two.r.valid.eq(r.valid & for_two),
            r.ready.eq(Mux(for_two, two.r.ready, one.r.ready)),
        ]
        return m
