# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end of a link."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.one_hot import encode

from .fabric import BUFFER_DEPTH, DATA_BITS, LinkSignature

__all__ = ["InputPort"]


class InputPort(wiring.Component):
    """A buffer of ``depth`` wavelets for each color of a link.

    A wavelet may be popped from the cycle on in which it is announced. Its data are at the
    reader's ``head`` three cycles after the pop, from the link if they have just come. The
    throughput is a wavelet per cycle in, and one out for each reader. A credit is returned in the
    cycle after the pop.

    Parameters
    ----------
    colors, depth : :class:`int`
        Number of colors; wavelets of each, a power of two.
    readers : :class:`int`
        Wavelets, of different colors, that may be popped in a cycle.

    Members
    -------
    link : :py:`In(LinkSignature(colors))`
        The link that arrives.
    held : :py:`Out(colors)`
        A bit per color: a wavelet was announced in an earlier cycle, and not popped. A register.
    single : :py:`Out(colors)`
        A bit per color: that wavelet is the only one.
    controls : :py:`Out(colors)`
        A bit per color: control bit of the oldest wavelet, be it the one announced in this cycle.
    pop : :py:`In(colors).array(readers)`
        Per reader a bit per color, at most one: the oldest wavelet is taken; only where one is
        held or announced.
    popped : :py:`Out(colors).array(readers)`
        ``pop`` of the cycle before.
    head : :py:`Out(32).array(readers)`
        Per reader, data of the wavelet popped three cycles ago: a register, or the link.
    """

    link: Any
    held: Signal
    single: Signal
    controls: Signal
    pop: Any
    popped: Any
    head: Any

    def __init__(self, *, colors: int, depth: int = BUFFER_DEPTH, readers: int = 1) -> None:
        self.colors = colors
        self.depth = depth
        self.readers = readers
        super().__init__(
            {
                "link": In(LinkSignature(colors)),
                "held": Out(colors),
                "single": Out(colors),
                "controls": Out(colors),
                "pop": In(colors).array(readers),
                "popped": Out(colors).array(readers),
                "head": Out(DATA_BITS).array(readers),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        colors, depth = self.colors, self.depth
        announced = self.link.announced
        pop = Signal(colors)
        for n in range(self.readers):
            m.d.sync += self.popped[n].eq(self.pop[n])
        m.d.comb += pop.eq(reduce(or_, self.pop))
        m.d.sync += self.link.credit.eq(pop)

        # Entries are numbered from 1: a pointer is the entry of the last wavelet in, or out.
        size = (depth - 1).bit_length()
        last_in = [Signal(colors, name=f"last_in_{bit}") for bit in range(size)]
        last_out = [Signal(colors, name=f"last_out_{bit}") for bit in range(size)]
        for pointer, step in ((last_in, announced), (last_out, pop)):
            carry: Any = step
            for bit in pointer:
                m.d.sync += bit.eq(bit ^ carry)
                carry = carry & bit
        # The last one in follows the last one out; there is room for no more.
        one = self.single
        same = Signal(colors)
        differs: Any = 0
        unequal: Any = 0
        carry = ~0
        for inward, outward in zip(last_in, last_out, strict=True):
            differs = differs | (inward ^ outward ^ carry)
            unequal = unequal | (inward ^ outward)
            carry = outward & carry
        m.d.comb += [one.eq(self.held & ~differs), same.eq(~unequal)]
        m.d.sync += self.held.eq((announced & ~pop) | (self.held & (announced | ~pop | ~one)))

        # A control wavelet is the last one of its color that a buffer holds.
        last_control = Signal(colors)
        m.d.sync += last_control.eq((last_control & ~announced) | self.link.announced_control)
        m.d.comb += self.controls.eq(
            (one & last_control) | (self.link.announced_control & ~self.held)
        )

        self._keep_data(m, last_in, last_out)
        m.d.sync += [
            Assert(
                ~(announced & self.held & same & ~pop).any(),
                "A color's buffer must not overflow",
            ),
            Assert(
                ~(announced & self.held & last_control).any(),
                "Nothing must be announced while a control wavelet of its color is held",
            ),
        ]
        return m

    def _keep_data(self, m: Module, last_in: list[Signal], last_out: list[Signal]) -> None:
        """Write the data that come, and read those of the color popped in the cycle before."""
        link = self.link
        arrives = Signal(self.colors)
        m.d.sync += arrives.eq(link.announced)
        color_bits = max(1, (self.colors - 1).bit_length())
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(DATA_BITS),
            depth=self.depth * self.colors,
            init=[],
            attrs={"ram_style": "block"},
        )
        write = storage.write_port()
        next_place, place = (Signal(len(last_in), name=name) for name in ("next_place", "place"))
        m.d.sync += [
            next_place.eq(Cat((bit & arrives).any() for bit in last_in)),
            place.eq(next_place),
        ]
        m.d.comb += [
            write.en.eq(link.valid),
            write.addr.eq(Cat(place, link.wavelet.color[:color_bits])),
            write.data.eq(link.wavelet.data),
        ]
        before = Signal(DATA_BITS, reset_less=True)
        m.d.sync += before.eq(link.wavelet.data)
        for n in range(self.readers):
            popped = self.popped[n]
            read = storage.read_port()
            # Data that come in the cycle of the read, in the next one, or in that of the head are
            # too late for the memory. Those of the head were announced with the pop: nothing else
            # was left behind then.
            with_read, behind_read, coming, passes = (
                Signal(name=f"{name}_{n}")
                for name in ("with_read", "behind_read", "coming", "passes")
            )
            address = Signal.like(read.addr, name=f"address_{n}")
            kept = Signal(DATA_BITS, name=f"kept_{n}", reset_less=True)
            m.d.comb += [
                read.addr.eq(Cat(((bit & popped).any() for bit in last_out), encode(popped))),
                behind_read.eq(write.en & (write.addr == address)),
            ]
            # The memory is late in the cycle: its data pass one multiplexer, to a register.
            recent = Mux(behind_read, link.wavelet.data, before)
            m.d.sync += [
                address.eq(read.addr),
                with_read.eq(write.en & (write.addr == read.addr)),
                kept.eq(Mux(with_read | behind_read, recent, read.data)),
                coming.eq((popped & arrives & ~self.held).any()),
                passes.eq(coming),
            ]
            m.d.comb += self.head[n].eq(Mux(passes, link.wavelet.data, kept))
