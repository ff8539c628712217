# SPDX-License-Identifier: BSD-2-Clause
"""Wires with a delay."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Delay"]


class Delay(wiring.Component):
    """Delays a word by ``latency`` cycles; a word per cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the word.
    latency : :class:`int`
        Cycles, 2 to 1024.

    Members
    -------
    i : :py:`In(shape)`
        The word.
    o : :py:`Out(shape)`
        The word of ``latency`` cycles ago; 0 until what was sent after the reset arrives.
    """

    i: Any
    o: Any

    def __init__(self, shape: ShapeLike, *, latency: int) -> None:
        if latency not in range(2, 1025):
            raise ValueError(f"Link latency must be 2 to 1024 cycles, not {latency!r}")
        self.latency = latency
        super().__init__({"i": In(shape), "o": Out(shape)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = Value.cast(self.i)
        if self.latency == 2:
            before = Signal(len(word))
            m.d.sync += [before.eq(word), Value.cast(self.o).eq(before)]
            return m
        # The last cycle is a register: the memory shows a word late in a cycle.
        depth = self.latency - 1
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(len(word)), depth=depth, init=[]
        )
        # Read the word of one round ago, in the cycle before it is overwritten.
        place = Signal(range(depth))
        following = Signal(range(depth))
        wrap = place == depth - 1
        # The memory holds words from before the reset until it has been written once.
        filled = Signal()
        m.d.sync += place.eq(0)
        with m.If(wrap):
            m.d.sync += filled.eq(1)
        with m.Else():
            m.d.sync += place.eq(place + 1)
            m.d.comb += following.eq(place + 1)
        write = storage.write_port()
        read = storage.read_port()
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(place),
            write.data.eq(word),
            read.addr.eq(following),
        ]
        m.d.sync += Value.cast(self.o).eq(Mux(filled, read.data, 0))
        return m
