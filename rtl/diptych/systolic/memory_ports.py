# SPDX-License-Identifier: BSD-2-Clause
"""Ports of the panel's memories, and the operand read of a pipeline."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["OperandFetch", "ReadPort", "SumPort", "WritePort"]


class ReadPort(wiring.Signature):
    """Reads of a memory, as seen by the reader.

    Members
    -------
    en, address : :py:`Out(1)`, :py:`Out(ceil_log2(depth))`
        Request of an entry; may be withdrawn until it is granted.
    ready : :py:`In(1)`
        The request is granted in this cycle.
    data : :py:`In(shape)`
        The entry, in the cycle after the grant only.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        super().__init__(
            {"en": Out(1), "address": Out(ceil_log2(depth)), "ready": In(1), "data": In(shape)}
        )


class WritePort(wiring.Signature):
    """Writes of a memory, as seen by the writer.

    Members
    -------
    en, address : :py:`Out(1)`, :py:`Out(ceil_log2(depth))`
        Request of a write.
    data, mask : :py:`Out(shape)`, :py:`Out(elements)`
        The entry, and a bit for each element of an array that is written.
    ready : :py:`In(1)`
        The write is granted in this cycle.
    """

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
    """Sums for the accumulators, as seen by the array; without backpressure.

    Members
    -------
    en, address : :py:`Out(1)`, :py:`Out(ceil_log2(depth))`
        An entry of sums arrives.
    start : :py:`Out(2)`
        Use of the old entry, as in :class:`.Modes`: 0 overwrites it, 1 adds to it, 2 adds to 256
        times it.
    data : :py:`Out(ArrayLayout(signed(32), columns))`
        The sums.
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
    """Reads the operand of a beat from one memory, and holds it while the unit stalls.

    A request is made once, as soon as a beat is presented and the unit is enabled; so stage 1 is
    free when the data arrive, or becomes free.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry.
    depth : :class:`int`
        Number of entries.

    Members
    -------
    enable : :py:`In(1)`
        While low, the unit stalls.
    want, address : :py:`In(1)`, :py:`In(ceil_log2(depth))`
        The beat that is presented reads this memory, at this entry.
    step : :py:`In(1)`
        The beat enters stage 1.
    granted : :py:`Out(1)`
        This memory does not hold up the beat, if ``enable`` is high.
    data : :py:`Out(shape)`
        The operand, in stage 1, until the next one, also for beats that read none: the second
        phase of a rotation uses the operand of the first.
    port : :py:`Out(ReadPort(shape, depth))`
        Port of the memory.
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
            # Not ``enable``, which is known late, and is part of ``step``.
            self.granted.eq(~self.want | have | self.port.ready),
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
