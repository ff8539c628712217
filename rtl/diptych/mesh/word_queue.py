# SPDX-License-Identifier: BSD-2-Clause
"""Words that come and must wait."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fabric import DATA_BITS

__all__ = ["WordQueue"]


class WordQueue(wiring.Component):
    """Keeps up to two words for a consumer that is not ready when they come.

    A word that comes to an empty queue is offered in the same cycle.

    Members
    -------
    comes, word : :py:`In(1)`, :py:`In(32)`
        A word comes; only where ``count`` is below 2, or one is taken.
    valid, oldest : :py:`Out(1)`, :py:`Out(32)`
        A word is offered.
    take : :py:`In(1)`
        It is taken; only while ``valid``.
    count : :py:`Out(2)`
        Words kept from earlier cycles.
    """

    comes: Signal
    word: Signal
    valid: Signal
    oldest: Signal
    take: Signal
    count: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "comes": In(1),
                "word": In(DATA_BITS),
                "valid": Out(1),
                "oldest": Out(DATA_BITS),
                "take": In(1),
                "count": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first, second = (
            Signal(DATA_BITS, name=name, reset_less=True) for name in ("first", "second")
        )
        m.d.comb += [
            self.valid.eq(self.comes | (self.count != 0)),
            self.oldest.eq(Mux(self.count != 0, first, self.word)),
        ]
        m.d.sync += self.count.eq(self.count + self.comes - self.take)
        with m.If(self.take | (self.count == 0)):
            m.d.sync += first.eq(Mux(self.count == 2, second, self.word))
        with m.If(self.comes):
            m.d.sync += second.eq(self.word)
        m.d.sync += Assert(
            ~(self.comes & ~self.take & (self.count == 2)), "A word must not come to a full queue"
        )
        return m
