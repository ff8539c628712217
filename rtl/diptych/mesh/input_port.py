# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end of a link."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .fabric import BUFFER_DEPTH, DATA_BITS, LinkSignature

__all__ = ["InputPort", "encode", "select"]


def select(one_hot: Value, values: list[Value]) -> Value:
    """Return the OR of those values whose bit of ``one_hot`` is set."""
    total: Any = None
    for bit, value in zip(one_hot, values, strict=True):
        masked = Mux(bit, value, 0)
        total = masked if total is None else total | masked
    return total


def encode(one_hot: Value) -> Value:
    """Return the number of the one bit that is set; 0 if none is."""
    count = len(one_hot)
    return Cat(
        Cat(one_hot[n] for n in range(count) if n >> bit & 1).any()
        for bit in range(max(1, (count - 1).bit_length()))
    )


class InputPort(wiring.Component):
    """A buffer of ``depth`` wavelets for each color of a link.

    A wavelet may be popped from the cycle on in which it is announced. Its data are at the
    reader's ``head`` in the cycle after the pop, from the link if they have just come. The
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
    controls : :py:`Out(colors)`
        A bit per color: control bit of the oldest wavelet, be it the one announced in this cycle.
    pop : :py:`In(colors).array(readers)`
        Per reader a bit per color, at most one: the oldest wavelet is taken; only where one is
        held or announced.
    popped : :py:`Out(colors).array(readers)`
        ``pop`` of the cycle before.
    head : :py:`Out(32).array(readers)`
        Per reader, data of the wavelet popped in the cycle before.
    """

    link: Any
    held: Signal
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

        # Wavelets held, a vector per number: bit k of the n-th is set if color k holds more than n.
        more_than = [Signal(colors, name=f"more_than_{n}") for n in range(depth)]
        m.d.comb += self.held.eq(more_than[0])
        for n, bit in enumerate(more_than):
            above = more_than[n + 1] if n + 1 < depth else 0
            below = more_than[n - 1] if n else ~0
            m.d.sync += bit.eq(
                (bit & ~(pop ^ announced)) | (above & pop & ~announced) | (below & announced & ~pop)
            )

        # A control wavelet is the last one of its color that a buffer holds.
        last_control = Signal(colors)
        m.d.sync += last_control.eq(
            (last_control & ~announced) | Mux(self.link.announced_control, announced, 0)
        )
        m.d.comb += self.controls.eq(
            (self.held & ~more_than[1] & last_control)
            | Mux(self.link.announced_control, ~self.held & announced, 0)
        )

        # Entries are numbered from 1: a pointer is the entry of the last wavelet in, or out.
        size = (depth - 1).bit_length()
        last_in = [Signal(colors, name=f"last_in_{bit}") for bit in range(size)]
        last_out = [Signal(colors, name=f"last_out_{bit}") for bit in range(size)]
        for pointer, step in ((last_in, announced), (last_out, pop)):
            carry: Any = step
            for bit in pointer:
                m.d.sync += bit.eq(bit ^ carry)
                carry = carry & bit

        self._keep_data(m, last_in, last_out)
        m.d.sync += [
            Assert(
                ~(announced & more_than[-1] & ~pop).any(),
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
        arrived = Signal(self.colors)
        m.d.sync += arrived.eq(link.announced)
        color_bits = max(1, (self.colors - 1).bit_length())
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(DATA_BITS), depth=self.depth * self.colors, init=[]
        )
        write = storage.write_port()
        m.d.comb += [
            write.en.eq(link.valid),
            write.addr.eq(
                Cat(((bit & arrived).any() for bit in last_in), link.wavelet.color[:color_bits])
            ),
            write.data.eq(link.wavelet.data),
        ]
        for n in range(self.readers):
            popped, passes = self.popped[n], Signal(name=f"passes_{n}")
            read = storage.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(Cat(((bit & popped).any() for bit in last_out), encode(popped))),
                # Nothing is left behind the one popped: it was announced in the cycle before, too.
                passes.eq((popped & arrived & ~self.held).any()),
                self.head[n].eq(Mux(passes, link.wavelet.data, read.data)),
            ]
