# SPDX-License-Identifier: BSD-2-Clause
"""Words that come and must wait."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fabric import DATA_BITS

__all__ = ["WordQueue"]


class WordQueue(wiring.Component):
    """Keeps words for a consumer that is not ready when they come.

    A word that comes to an empty queue is offered in the same cycle.

    Parameters
    ----------
    depth : :class:`int`
        Words that are kept: as many as may be under way when the consumer stalls.

    Members
    -------
    comes, word : :py:`In(1)`, :py:`In(32)`
        A word comes; only where ``count`` is below the depth, or one is taken.
    valid, oldest : :py:`Out(1)`, :py:`Out(32)`
        A word is offered.
    take : :py:`In(1)`
        It is taken; only while ``valid``.
    count : :py:`Out(range(depth + 1))`
        Words kept from earlier cycles.
    """

    comes: Signal
    word: Signal
    valid: Signal
    oldest: Signal
    take: Signal
    count: Signal

    def __init__(self, *, depth: int = 3) -> None:
        self.depth = depth
        super().__init__(
            {
                "comes": In(1),
                "word": In(DATA_BITS),
                "valid": Out(1),
                "oldest": Out(DATA_BITS),
                "take": In(1),
                "count": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kept = [Signal(DATA_BITS, name=f"kept_{n}", reset_less=True) for n in range(self.depth)]
        holds = Signal()
        m.d.comb += [
            holds.eq(self.count != 0),
            self.valid.eq(self.comes | holds),
            self.oldest.eq(Mux(holds, kept[0], self.word)),
        ]
        m.d.sync += self.count.eq(self.count + self.comes - self.take)
        for n, word in enumerate(kept):
            behind = kept[n + 1] if n + 1 < self.depth else self.word
            with m.If(self.take):
                m.d.sync += word.eq(Mux(self.count > n + 1, behind, self.word))
            with m.Elif(self.count <= n):
                m.d.sync += word.eq(self.word)
        m.d.sync += Assert(
            ~(self.comes & ~self.take & (self.count == self.depth)),
            "A word must not come to a full queue",
        )
        return m
