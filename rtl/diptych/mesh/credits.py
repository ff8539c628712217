# SPDX-License-Identifier: BSD-2-Clause
"""Credit counters of a link's sender."""

from typing import Any

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fabric import BUFFER_DEPTH

__all__ = ["Credits"]


class Credits(wiring.Component):
    """Counts the free entries of every color in the receiver's buffers.

    The counters of all colors are one vector per bit. A credit is available in the cycle in which
    it arrives.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    send : :py:`In(colors)`
        A bit per color: a wavelet is sent; only where ``available``.
    credit : :py:`In(colors)`
        A bit per color: a wavelet left the receiver's buffer.
    available : :py:`Out(colors)`
        A bit per color: an entry is free. Depends on ``credit`` combinationally.
    """

    send: Signal
    credit: Signal
    available: Signal

    def __init__(self, *, colors: int) -> None:
        if BUFFER_DEPTH != 4:
            raise ValueError(f"Buffer depth must be 4, not {BUFFER_DEPTH!r}")
        self.colors = colors
        super().__init__({"send": In(colors), "credit": In(colors), "available": Out(colors)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        ones = Signal(self.colors)
        twos = Signal(self.colors)
        fours = Signal(self.colors, init=2**self.colors - 1)
        change = Signal(self.colors)
        to_twos = Signal(self.colors)
        to_fours = Signal(self.colors)
        m.d.comb += [
            self.available.eq(ones | twos | fours | self.credit),
            change.eq(self.send ^ self.credit),
            to_twos.eq(change & ~(self.credit ^ ones)),
            to_fours.eq(to_twos & ~(self.credit ^ twos)),
        ]
        with m.If(change.any()):
            m.d.sync += [
                ones.eq(ones ^ change),
                twos.eq(twos ^ to_twos),
                fours.eq(fours ^ to_fours),
            ]

        m.d.sync += Assert(
            ~(fours & (ones | twos)).any(), "Credits must not exceed the receiver's buffers"
        )
        return m
