# SPDX-License-Identifier: BSD-2-Clause
"""Combines wavelets of a router's ports."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.one_hot import select

from .combiner import Combiner
from .fabric import DATA_BITS, DIRECTIONS, Port

__all__ = ["CombinerTree"]

_FIRST = (Port.NORTH, Port.SOUTH)
_SECOND = (Port.EAST, Port.WEST, Port.RAMP)


class CombinerTree(wiring.Component):
    """Combines one wavelet from each of some ports: sum, maximum, or arg-max of pairs.

    One from a direction and one from the ramp pass one :class:`.Combiner`. Where there are more, two
    others combine those of north and south, and those of east, west and ramp, a cycle before. The
    throughput is a result per cycle, if no color of the first kind comes behind one of the other.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    next : :py:`In(colors)`
        A bit per color, at most one: its wavelets are read in this cycle.
    delayed : :py:`In(1)`
        Its results come a cycle later.
    takes : :py:`In(5)`
        A bit per port: its wavelet counts.
    compares, pairs : :py:`In(colors)`
        A bit per color: the maximum, not the sum; wavelets come in pairs.
    restart : :py:`In(colors)`
        A bit per color: behind the wavelets that came before, the first ones of pairs are next.
    head : :py:`In(32).array(5)`
        Data by port, a cycle later.
    result : :py:`Out(32)`
        The result of what was read in the cycle before, or two cycles ago. Combinational.
    """

    next: Signal
    delayed: Signal
    takes: Signal
    compares: Signal
    pairs: Signal
    restart: Signal
    head: Any
    result: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "next": In(colors),
                "delayed": In(1),
                "takes": In(len(Port)),
                **{name: In(colors) for name in ("compares", "pairs", "restart")},
                "head": In(DATA_BITS).array(len(Port)),
                "result": Out(DATA_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.first = first = Combiner(colors=self.colors, words=len(_FIRST))
        m.submodules.second = second = Combiner(colors=self.colors, words=len(_SECOND))
        m.submodules.last = last = Combiner(colors=self.colors, words=2)
        compares, is_index = self._control(m)

        # Of delayed colors: what comes with their heads.
        now, taken = Signal(self.colors), Signal(len(Port))
        now_compares, now_is_index = Signal(), Signal()
        m.d.sync += [
            now.eq(Mux(self.delayed, self.next, 0)),
            taken.eq(Mux(self.delayed, self.takes, 0)),
            now_compares.eq(compares),
            now_is_index.eq(is_index),
        ]
        for combiner, ports in ((first, _FIRST), (second, _SECOND)):
            m.d.comb += [
                combiner.now.eq(now),
                combiner.taken.eq(Cat(taken[p] for p in ports)),
                combiner.compares.eq(now_compares),
                combiner.is_index.eq(now_is_index),
            ]
            for n, p in enumerate(ports):
                m.d.comb += combiner.operands[n].eq(Mux(taken[p], self.head[p], 0))

        # Of other colors: what comes with their heads, which are the last ones.
        at_once = Signal(len(Port))
        m.d.sync += [
            at_once.eq(Mux(self.delayed, 0, self.takes)),
            last.now.eq(Mux(self.delayed, 0, self.next) | now),
            last.compares.eq(Mux(now.any(), now_compares, compares)),
            last.is_index.eq(Mux(now.any(), now_is_index, is_index)),
        ]
        for n, (ports, before) in enumerate(((DIRECTIONS, first), ((Port.RAMP,), second))):
            result = Signal(DATA_BITS, name=f"result_{n}")
            counts = Signal(name=f"result_{n}_counts")
            m.d.sync += [result.eq(before.result), counts.eq(before.taken.any())]
            mask = Cat(at_once[p] for p in ports)
            m.d.comb += [
                last.operands[n].eq(result | select(mask, [self.head[p] for p in ports])),
                last.taken[n].eq(counts | mask.any()),
            ]
        m.d.comb += self.result.eq(last.result)
        return m

    def _control(self, m: Module) -> tuple[Signal, Signal]:
        """Whether what is read is compared, and whether it is the second one of pairs."""
        compares, is_index = Signal(), Signal()
        second, before = Signal(self.colors), Signal(self.colors)
        second_now = Signal(self.colors)
        m.d.comb += [
            second_now.eq((second ^ (before & self.pairs)) & ~self.restart),
            compares.eq((self.next & self.compares).any()),
            is_index.eq((self.next & self.pairs & second_now).any()),
        ]
        m.d.sync += [second.eq(second_now), before.eq(self.next)]
        return compares, is_index
