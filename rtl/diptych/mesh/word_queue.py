# SPDX-License-Identifier: BSD-2-Clause
"""Words that come and must wait."""

from itertools import pairwise

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .fabric import DATA_BITS

__all__ = ["WordQueue"]


class WordQueue(wiring.Component):
    """Keeps words of arriving wavelets for a consumer that is not ready when they come.

    A word comes three cycles after its wavelet was popped. To an empty queue it is offered in the
    same cycle.

    Parameters
    ----------
    depth : :class:`int`
        Words that are kept: as many as may be under way when the consumer stalls.

    Members
    -------
    popped, word : :py:`In(1)`, :py:`In(32)`
        A wavelet is popped in this cycle, only while ``room`` or where the consumer takes a word
        for each cycle; the data of the one that was popped three cycles ago.
    valid, oldest : :py:`Out(1)`, :py:`Out(32)`
        A word is offered.
    take : :py:`In(1)`
        It is taken; only while ``valid``.
    room : :py:`Out(1)`
        There is room for one more, whatever is taken.
    """

    popped: Signal
    word: Signal
    valid: Signal
    oldest: Signal
    take: Signal
    room: Signal

    def __init__(self, *, depth: int = 3) -> None:
        self.depth = depth
        super().__init__(
            {
                "popped": In(1),
                "word": In(DATA_BITS),
                "valid": Out(1),
                "oldest": Out(DATA_BITS),
                "take": In(1),
                "room": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kept = [Signal(DATA_BITS, name=f"kept_{n}", reset_less=True) for n in range(self.depth)]
        coming = [Signal(name=f"coming_{n}") for n in range(3)]
        comes = coming[-1]
        count = Signal(range(self.depth + 1))
        holds = Signal()
        m.d.comb += [
            holds.eq(count != 0),
            self.valid.eq(comes | holds),
            self.oldest.eq(Mux(holds, kept[0], self.word)),
            self.room.eq(count + sum(coming[1:], coming[0]) < self.depth),
        ]
        m.d.sync += [
            count.eq(count + comes - self.take),
            *(behind.eq(before) for before, behind in pairwise((self.popped, *coming))),
        ]
        for n, word in enumerate(kept):
            behind = kept[n + 1] if n + 1 < self.depth else self.word
            with m.If(self.take):
                m.d.sync += word.eq(Mux(count > n + 1, behind, self.word))
            with m.Elif(count <= n):
                m.d.sync += word.eq(self.word)
        m.d.sync += Assert(
            ~(comes & ~self.take & (count == self.depth)),
            "A word must not come to a full queue",
        )
        return m
