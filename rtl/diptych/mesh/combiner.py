# SPDX-License-Identifier: BSD-2-Clause
"""Sum, maximum and arg-max of a router."""

from itertools import combinations
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.carry_save import carry_save

from .fabric import DATA_BITS, Port

__all__ = ["Combiner"]


class Combiner(wiring.Component):
    """Combines one wavelet from each of some ports: the sum of int32, or the signed maximum.

    Of the second wavelets of pairs, the least unsigned one of those whose first ones were the
    largest. The latency is a cycle, the throughput a result per cycle.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    next : :py:`In(colors)`
        A bit per color, at most one: its wavelets come in the next cycle.
    takes : :py:`In(5)`
        A bit per port: its operand counts, in the next cycle.
    operands : :py:`In(32).array(5)`
        Data by port.
    compares, pairs : :py:`In(colors)`
        A bit per color: the maximum, not the sum; wavelets come in pairs. Read with ``next``.
    restart : :py:`In(colors)`
        A bit per color: the wavelets after those that come are the first ones of pairs.
    result : :py:`Out(32)`
        The result of what came in the cycle before. Combinational.
    """

    next: Signal
    takes: Signal
    operands: Any
    compares: Signal
    pairs: Signal
    restart: Signal
    result: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "next": In(colors),
                "takes": In(len(Port)),
                "operands": In(DATA_BITS).array(len(Port)),
                **{name: In(colors) for name in ("compares", "pairs", "restart")},
                "result": Out(DATA_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        compares = Signal()
        is_index = Signal()
        now = Signal(self.colors)
        second = Signal(self.colors)
        second_next = Signal(self.colors)
        index_next = Signal()
        m.d.comb += [
            second_next.eq((second ^ (now & self.pairs)) & ~self.restart),
            index_next.eq((self.next & self.pairs & second_next).any()),
        ]
        m.d.sync += [second.eq(second_next), now.eq(self.next)]
        # What comes with the operands.
        comes, compares_next, brings_index = (
            Signal(name=name) for name in ("comes", "compares_next", "brings_index")
        )
        takes = Signal(len(Port), name="takes_now")
        m.d.sync += [
            comes.eq(self.next.any()),
            compares_next.eq((self.next & self.compares).any()),
            brings_index.eq(index_next),
            takes.eq(self.takes),
        ]
        # So that the largest unsigned number wins: the sign of keys, all bits of indices.
        flips = Signal(DATA_BITS)
        m.d.comb += flips.eq(Cat(brings_index.replicate(DATA_BITS - 1), compares_next))
        taken = Signal(len(Port))
        held = Signal(self.colors)
        m.d.sync += held.eq(now)
        terms = [Signal(DATA_BITS, name=f"term_{p.label}") for p in Port]
        with m.If(comes):
            m.d.sync += [
                taken.eq(takes),
                compares.eq(compares_next),
                is_index.eq(brings_index),
            ]
            for p, term in zip(Port, terms, strict=True):
                m.d.sync += term.eq(Mux(takes[p], self.operands[p] ^ flips, 0))
        largest = self._compare(m, terms, taken, held, is_index)
        turned = Cat(is_index.replicate(DATA_BITS - 1), compares)
        m.d.comb += self.result.eq(Mux(compares, largest ^ turned, self._add(m, terms)))
        return m

    def _add(self, m: Module, terms: list[Any]) -> Value:
        """Sum the operands: three become two without a carry, until two are left for an adder."""
        while len(terms) > 2:
            a, b, c, *rest = terms
            terms = [*rest, *carry_save(m, a, b, c, name=f"sum_of_{len(terms)}")]
        return terms[0] + terms[1]

    def _compare(
        self, m: Module, terms: list[Any], taken: Signal, now: Signal, is_index: Signal
    ) -> Value:
        """All pairs of operands at once; of equal ones the first port is chosen, and all win."""
        won = [Signal(self.colors, name=f"won_{p.label}", reset_less=True) for p in Port]
        counts = Signal(len(Port))
        for p in Port:
            m.d.comb += counts[p].eq(taken[p] & (~is_index | (won[p] & now).any()))
        less: dict[tuple[Port, Port], Signal] = {}
        equal: dict[tuple[Port, Port], Signal] = {}
        for a, b in combinations(Port, 2):
            less[a, b] = Signal(name=f"{a.label}_less_{b.label}")
            equal[a, b] = Signal(name=f"{a.label}_equals_{b.label}")
            m.d.comb += [
                less[a, b].eq(terms[a] < terms[b]),
                equal[a, b].eq(terms[a] == terms[b]),
            ]
        picked: Any = 0
        for p in Port:
            beaten, preceded = (
                Signal(4, name=f"beaten_{p.label}"),
                Signal(4, name=f"after_{p.label}"),
            )
            for n, q in enumerate(q for q in Port if q is not p):
                # Of two, the one of the lower port is chosen if they are equal.
                first = ~less[q, p] if q < p else less[p, q]
                m.d.comb += [
                    preceded[n].eq(counts[q] & first),
                    beaten[n].eq(counts[q] & first & (~equal[q, p] if q < p else 1)),
                ]
            choice = Signal(name=f"chosen_{p.label}")
            m.d.comb += choice.eq(counts[p] & ~preceded.any())
            picked = picked | Mux(choice, terms[p], 0)
            with m.If(~is_index):
                wins = counts[p] & ~beaten.any()
                m.d.sync += won[p].eq(Mux(wins, won[p] | now, won[p] & ~now))
        return picked
