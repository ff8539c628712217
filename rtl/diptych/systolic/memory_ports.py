# SPDX-License-Identifier: BSD-2-Clause
"""Ports of the panel's memories, and how a pipeline reads one: a request per beat."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["OperandFetch", "ReadPort", "SumPort", "WritePort"]


class ReadPort(wiring.Signature):
    """Reads of a memory, seen by who reads.

    A request (``en``, ``address``) is accepted in a cycle in which ``ready`` is high, and may be
    withdrawn before. The next cycle, and only then, ``data`` shows the entry.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        super().__init__(
            {"en": Out(1), "address": Out(ceil_log2(depth)), "ready": In(1), "data": In(shape)}
        )


class WritePort(wiring.Signature):
    """Writes of a memory, seen by who writes; ``mask`` has a bit for each element of an array."""

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        elements = shape.length if isinstance(shape, data.ArrayLayout) else 1
        super().__init__(
            {
                "en": Out(1),
                "address": Out(ceil_log2(depth)),
                "data": Out(shape),
                "mask": Out(elements),
                "ready": In(1),
            }
        )


class SumPort(wiring.Signature):
    """Sums for the accumulators, seen by who sums; each is taken in its cycle.

    ``start`` says what happens to the old entry, as in :class:`.Modes`: 0 overwrites it, 1 adds to
    it, 2 adds to 256 times it.
    """

    def __init__(self, columns: int, depth: int) -> None:
        super().__init__(
            {
                "en": Out(1),
                "address": Out(ceil_log2(depth)),
                "start": Out(2),
                "data": Out(data.ArrayLayout(signed(32), columns)),
            }
        )


class OperandFetch(wiring.Component):
    """Requests what a beat needs from one memory, and keeps the answer while the unit stalls.

    A request is made as soon as a beat is presented, once, and only while the unit is enabled;
    so the answer finds the stage after it free, or coming free.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry.
    depth : :class:`int`
        Number of entries.

    Members
    -------
    enable : :py:`In(1)`
        Whether the unit moves on.
    want, address : :py:`In`
        Whether the beat that is presented reads this memory, and where.
    step : :py:`In(1)`
        Whether that beat moves on to stage 1.
    granted : :py:`Out(1)`
        Whether it may, as far as this memory is concerned.
    data : :py:`Out(shape)`
        The answer, in stage 1. It stays until the next one, also for beats that want none: the
        second phase of a rotation works on what the first one read.
    port : :py:`Out(ReadPort(shape, depth))`
        The memory.
    """

    enable: Signal
    want: Signal
    address: Signal
    step: Signal
    granted: Signal
    data: Any
    port: Any

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        port = ReadPort(shape, depth)
        super().__init__(
            {
                "enable": In(1),
                "want": In(1),
                "address": In(port.members["address"].shape),
                "step": In(1),
                "granted": Out(1),
                "data": Out(shape),
                "port": Out(port),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        have = Signal()
        accepted = Signal()
        arrives = Signal()
        answer = Value.cast(self.port.data)
        kept = Signal(len(answer), reset_less=True)
        m.d.comb += [
            self.port.address.eq(self.address),
            self.port.en.eq(self.want & ~have & self.enable),
            accepted.eq(self.port.en & self.port.ready),
            self.granted.eq(~self.want | have | accepted),
            Value.cast(self.data).eq(Mux(arrives, answer, kept)),
        ]
        m.d.sync += arrives.eq(accepted)
        with m.If(self.step):
            m.d.sync += have.eq(0)
        with m.Elif(accepted):
            m.d.sync += have.eq(1)
        with m.If(arrives):
            m.d.sync += kept.eq(answer)
        return m
