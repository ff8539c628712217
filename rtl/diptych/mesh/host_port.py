# SPDX-License-Identifier: BSD-2-Clause
"""Host port of a row: injects load packets, and accepts the words that leave the mesh."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .credits import Credits
from .fabric import DATA_BITS, LOAD_COLOR, LinkSignature

__all__ = ["LINE_WORDS", "HostLine", "HostPort"]

LINE_WORDS = 16


class HostLine(data.StructLayout):
    """Up to :data:`LINE_WORDS` words at once; ``count`` of them, the first in the low bits."""

    def __init__(self) -> None:
        super().__init__({"words": LINE_WORDS * DATA_BITS, "count": 5})


class HostPort(wiring.Component):
    """Sends words into a row of the mesh on :data:`.LOAD_COLOR`, a word per cycle.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors of the mesh.

    Members
    -------
    i : :py:`In(stream.Signature(HostLine()))`
        Words of load packets, from the host.
    words : :py:`In(stream.Signature(32))`
        Words of load packets, from the KV link; the host has priority. The host must have
        completed its packets before the link starts.
    link : :py:`Out(LinkSignature(colors))`
        To the row's first tile.
    back : :py:`In(LinkSignature(colors))`
        From the row's first tile; wavelets are accepted in every cycle.
    """

    i: stream.Interface
    words: stream.Interface
    link: Any
    back: Any

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "i": In(stream.Signature(HostLine())),
                "words": In(stream.Signature(DATA_BITS)),
                "link": Out(LinkSignature(colors)),
                "back": In(LinkSignature(colors)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.credits = credits = Credits(colors=self.colors)
        words = Signal(LINE_WORDS * DATA_BITS)
        left = Signal(5)
        send = Signal()
        sends_word = Signal()
        available = Signal()
        word = Signal(DATA_BITS)
        # Of the two that were announced last.
        coming = [Signal(DATA_BITS, name=f"coming_{n}") for n in range(2)]
        comes = Signal(2)
        m.d.sync += available.eq(credits.two[LOAD_COLOR])
        m.d.comb += [
            credits.credit.eq(self.link.credit),
            send.eq((left != 0) & available),
            self.words.ready.eq((left == 0) & available),
            sends_word.eq(self.words.valid & self.words.ready),
            credits.send.eq(self.link.announced),
            self.i.ready.eq((left == 0) | (send & (left == 1))),
        ]
        m.d.sync += [
            self.link.announced.eq((send | sends_word) << LOAD_COLOR),
            comes.eq(Cat(self.link.announced.any(), comes[0])),
            coming[0].eq(word),
            coming[1].eq(coming[0]),
            self.link.valid.eq(comes[1]),
            self.link.wavelet.data.eq(coming[1]),
            self.link.wavelet.color.eq(LOAD_COLOR),
        ]
        with m.If(sends_word):
            m.d.sync += word.eq(self.words.payload)
        with m.If(send):
            m.d.sync += [
                word.eq(words[:DATA_BITS]),
                words.eq(words >> DATA_BITS),
                left.eq(left - 1),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [words.eq(self.i.payload.words), left.eq(self.i.payload.count)]
        m.d.sync += self.back.credit.eq(self.back.announced)
        return m
