# SPDX-License-Identifier: BSD-2-Clause
"""Credit counters of a link's sender."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fabric import BUFFER_DEPTH

__all__ = ["Credits"]


class Credits(wiring.Component):
    """Counts the free entries of every color in the receiver's buffers.

    The counters of all colors are one vector per bit. What they allow is chosen in the next cycle,
    and counted when it is announced: a cycle after the choice, or two. So one or two choices that
    are not counted yet may have taken entries, and two or three must be free. After a control
    wavelet nothing is allowed until all entries are free.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.
    depth : :class:`int`
        Wavelets that a buffer holds; a power of two, at least 4.

    Members
    -------
    send : :py:`In(colors)`
        A bit per color: a wavelet is announced.
    control : :py:`In(1)`
        The one that is announced is a control wavelet.
    credit : :py:`In(colors)`
        A bit per color: an entry of the receiver's buffer becomes free.
    two, three : :py:`Out(colors)`
        A bit per color: so many entries are free, with what ``send`` and ``credit`` change in this
        cycle. Register it: a wavelet that is announced one cycle after its choice, or two, may be
        chosen in the next cycle.

    Raises
    ------
    ValueError
        If the depth is no power of two.
    """

    send: Signal
    control: Signal
    credit: Signal
    two: Signal
    three: Signal

    def __init__(self, *, colors: int, depth: int = BUFFER_DEPTH) -> None:
        if depth < 4 or depth & depth - 1:
            raise ValueError(f"Buffer depth must be a power of two from 4 on, not {depth!r}")
        self.colors = colors
        self.depth = depth
        super().__init__(
            {
                "send": In(colors),
                "control": In(1),
                "credit": In(colors),
                "two": Out(colors),
                "three": Out(colors),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        size = self.depth.bit_length()
        everywhere = 2**self.colors - 1
        bits = [
            Signal(self.colors, name=f"free_{2**n}", init=everywhere * (n == size - 1))
            for n in range(size)
        ]
        after = [Signal(self.colors, name=f"free_after_{2**n}") for n in range(size)]
        change = Signal(self.colors)
        m.d.comb += change.eq(self.send ^ self.credit)
        carry = change
        for bit, next_bit in zip(bits, after, strict=True):
            m.d.comb += next_bit.eq(bit ^ carry)
            # Up: a carry out of a 1. Down: a borrow out of a 0.
            passed = Signal(self.colors, name=f"{bit.name}_carry")
            m.d.comb += passed.eq(carry & ~(self.credit ^ bit))
            carry = passed
        m.d.sync += [bit.eq(next_bit) for bit, next_bit in zip(bits, after, strict=True)]
        four = after[2]
        for next_bit in after[3:]:
            four = four | next_bit
        draining = Signal(self.colors)
        drains = Signal(self.colors)
        m.d.comb += [
            drains.eq((draining | Mux(self.control, self.send, 0)) & ~after[-1]),
            self.two.eq((four | after[1]) & ~drains),
            self.three.eq((four | (after[1] & after[0])) & ~drains),
        ]
        m.d.sync += draining.eq(drains)

        fewer = bits[0]
        for bit in bits[1:-1]:
            fewer = fewer | bit
        m.d.sync += Assert(
            ~(bits[-1] & fewer).any(), "Credits must not exceed the receiver's buffers"
        )
        return m
