# SPDX-License-Identifier: BSD-2-Clause
"""Sum, maximum and arg-max of some words."""

from functools import reduce
from itertools import combinations
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.carry_save import carry_save

from .fabric import DATA_BITS

__all__ = ["Combiner"]


class Combiner(wiring.Component):
    """Combines words of a color: their int32 sum, or the signed maximum.

    Of the second words of pairs, the least unsigned one of those whose first ones were the largest.
    Combinational, but for which first ones were the largest.

    Parameters
    ----------
    colors, words : :class:`int`
        Number of colors; words that may be combined.

    Members
    -------
    now : :py:`In(colors)`
        A bit per color, at most one: words of it are there.
    taken : :py:`In(words)`
        A bit per word: it counts.
    operands : :py:`In(32).array(words)`
        The words; 0 where they do not count.
    compares, is_index : :py:`In(1)`
        The maximum, not the sum; the words are the second ones of pairs.
    result : :py:`Out(32)`
        The result.
    """

    now: Signal
    taken: Signal
    operands: Any
    compares: Signal
    is_index: Signal
    result: Signal

    def __init__(self, *, colors: int, words: int) -> None:
        self.colors = colors
        self.words = words
        super().__init__(
            {
                "now": In(colors),
                "taken": In(words),
                "operands": In(DATA_BITS).array(words),
                "compares": In(1),
                "is_index": In(1),
                "result": Out(DATA_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        terms = [self.operands[n] for n in range(self.words)]
        chosen = self._compare(m, terms)
        best = reduce(or_, (Mux(choice, t, 0) for choice, t in zip(chosen, terms, strict=True)))
        m.d.comb += self.result.eq(Mux(self.compares, best, self._add(m, terms)))
        return m

    def _add(self, m: Module, terms: list[Any]) -> Value:
        """Sum the words: three become two without a carry, until two are left for an adder."""
        while len(terms) > 2:
            a, b, c, *rest = terms
            terms = [*rest, *carry_save(m, a, b, c, name=f"sum_of_{len(terms)}")]
        return terms[0] + terms[1]

    def _compare(self, m: Module, terms: list[Any]) -> list[Value]:
        """Compare all pairs of words at once; of equal keys the first one is chosen, and all win."""
        numbers = range(self.words)
        won = [Signal(self.colors, name=f"won_{n}", reset_less=True) for n in numbers]
        counts = Signal(self.words)
        for n in numbers:
            lost = self.is_index & ~(won[n] & self.now).any()
            m.d.comb += counts[n].eq(self.taken[n] & ~lost)
        # Keys are signed, indices are not.
        unsigned = [Cat(term[:-1], term[-1] ^ ~self.is_index) for term in terms]
        before: dict[tuple[int, int], Signal] = {}
        equal: dict[tuple[int, int], Signal] = {}
        for a, b in combinations(numbers, 2):
            before[a, b] = Signal(name=f"before_{a}_{b}")
            equal[a, b] = Signal(name=f"equal_{a}_{b}")
            m.d.comb += [
                before[a, b].eq((unsigned[a] < unsigned[b]) == self.is_index),
                equal[a, b].eq(terms[a] == terms[b]),
            ]
        chosen: list[Value] = []
        for n in numbers:
            others = [k for k in numbers if k != n]
            preceded, beaten = (
                Signal(len(others), name=f"{name}_{n}") for name in ("preceded", "beaten")
            )
            for bit, k in enumerate(others):
                first = before[k, n] if k < n else ~before[n, k]
                m.d.comb += [
                    preceded[bit].eq(counts[k] & first),
                    beaten[bit].eq(counts[k] & first & (~equal[k, n] if k < n else 1)),
                ]
            chosen.append(counts[n] & ~preceded.any())
            with m.If(~self.is_index):
                wins = counts[n] & ~beaten.any()
                m.d.sync += won[n].eq(Mux(wins, won[n] | self.now, won[n] & ~self.now))
        return chosen
