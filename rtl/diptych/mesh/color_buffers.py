# SPDX-License-Identifier: BSD-2-Clause
"""The receiving end of a link."""

from typing import Any

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .fabric import BUFFER_DEPTH, COLOR_BITS, DATA_BITS, LinkSignature

__all__ = ["ColorBuffers", "Head"]


class Head(data.StructLayout):
    """Entry of a buffer: a wavelet without its color."""

    def __init__(self) -> None:
        super().__init__({"data": DATA_BITS, "control": 1})


class ColorBuffers(wiring.Component):
    """A buffer of :data:`.BUFFER_DEPTH` wavelets for each color of a link.

    A wavelet that arrives at an empty buffer is offered in the same cycle (bypass). The throughput
    is a wavelet per cycle in, and one of every color out. A credit is returned in the cycle after
    a wavelet was taken.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    link : :py:`In(LinkSignature(colors))`
        The link that arrives.
    waiting : :py:`Out(colors)`
        A bit per color: a wavelet is offered.
    head_<n> : :py:`Out(Head())`
        The oldest wavelet of color ``n``, valid while it waits.
    pop : :py:`In(colors)`
        A bit per color: the wavelet is taken; only where one waits.
    """

    link: Any
    waiting: Signal
    pop: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "link": In(LinkSignature(colors)),
                "waiting": Out(colors),
                "pop": In(colors),
                **{f"head_{color}": Out(Head()) for color in range(colors)},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        colors = self.colors
        color = self.link.wavelet.color

        arriving = Signal(colors)
        incoming = Signal(Head())
        m.d.comb += [
            arriving.eq(Mux(self.link.valid, 1 << color, 0)),
            incoming.data.eq(self.link.wavelet.data),
            incoming.control.eq(self.link.wavelet.control),
        ]

        # Pointers of all buffers, a vector per bit; the third bit tells full from empty.
        reads = [Signal(colors, name=f"read_{bit}") for bit in range(3)]
        writes = [Signal(colors, name=f"write_{bit}") for bit in range(3)]
        filled = Signal(colors)
        full = Signal(colors)
        push = Signal(colors)
        same = Signal(colors)
        m.d.comb += [
            same.eq(~((reads[0] ^ writes[0]) | (reads[1] ^ writes[1]))),
            full.eq(same & (reads[2] ^ writes[2])),
            filled.eq(~same | full),
            self.waiting.eq(filled | arriving),
            push.eq(arriving & (filled | ~self.pop)),
        ]
        removed = Signal(colors)
        m.d.comb += removed.eq(self.pop & filled)
        for pointer, step in ((reads, removed), (writes, push)):
            with m.If(step.any()):
                m.d.sync += [
                    pointer[0].eq(pointer[0] ^ step),
                    pointer[1].eq(pointer[1] ^ (step & pointer[0])),
                    pointer[2].eq(pointer[2] ^ (step & pointer[0] & pointer[1])),
                ]
        m.d.sync += self.link.credit.eq(self.pop)

        bits = (colors - 1).bit_length()
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(DATA_BITS + 1), depth=BUFFER_DEPTH << bits, init=[]
        )
        write = storage.write_port()
        m.d.comb += [
            write.en.eq(push.any()),
            write.addr.eq(
                Cat(
                    writes[0].bit_select(color, 1),
                    writes[1].bit_select(color, 1),
                    color[: min(bits, COLOR_BITS)],
                )
            ),
            write.data.eq(incoming.as_value()),
        ]
        for index in range(colors):
            read = storage.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(Cat(reads[0][index], reads[1][index]) | index * BUFFER_DEPTH),
                getattr(self, f"head_{index}").eq(
                    Mux(filled[index], read.data, incoming.as_value())
                ),
            ]

        m.d.sync += Assert(~(push & full).any(), "A color's buffer must not overflow")
        return m
