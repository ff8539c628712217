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
    control : :py:`In(colors)`
        The same, if it is a control wavelet.
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
                "control": In(colors),
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
        up, down = Signal(self.colors), Signal(self.colors)
        m.d.comb += [up.eq(self.credit & ~self.send), down.eq(self.send & ~self.credit)]
        carry = up | down
        for bit in bits:
            m.d.sync += bit.eq(bit ^ carry)
            # Up: a carry out of a 1. Down: a borrow out of a 0.
            passed = Signal(self.colors, name=f"{bit.name}_carry")
            m.d.comb += passed.eq(carry & ~(self.credit ^ bit))
            carry = passed

        # What is free after this cycle follows from what was free, without those carries.
        four = bits[2]
        for bit in bits[3:]:
            four = four | bit
        fewer, all_but_one = bits[0], bits[0]
        for bit in bits[1:-1]:
            fewer, all_but_one = fewer | bit, all_but_one & bit
        at_least = [~0, four | bits[1] | bits[0], four | bits[1], four | (bits[1] & bits[0]), four]
        draining = Signal(self.colors)
        drains, full = Signal(self.colors), Signal(self.colors)

        def after(limit: int) -> Any:
            """A bit per color: at least so many are free after this cycle."""
            return (
                (up & at_least[limit - 1])
                | (down & at_least[limit + 1])
                | (~up & ~down & at_least[limit])
            )

        m.d.comb += [
            full.eq((bits[-1] & ~down) | (all_but_one & up)),
            drains.eq((draining | self.control) & ~full),
            self.two.eq(after(2) & ~drains),
            self.three.eq(after(3) & ~drains),
        ]
        m.d.sync += draining.eq(drains)

        m.d.sync += Assert(
            ~(bits[-1] & fewer).any(), "Credits must not exceed the receiver's buffers"
        )
        return m
