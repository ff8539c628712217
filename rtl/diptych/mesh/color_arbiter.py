# SPDX-License-Identifier: BSD-2-Clause
"""Choice of the colors that a router passes on."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ColorArbiter"]


class ColorArbiter(wiring.Component):
    """Chooses colors that do not conflict; of those that do, the one chosen the longest ago.

    Combinational. The choice has two classes, because what is announced in this cycle is known
    late: colors that were complete before, in turn; then those that become complete in this cycle,
    if they conflict with no color of the first class and with none that has an announcement.

    Colors that are delayed by the combiners leave a cycle later than others. In the cycle after
    their choice their targets are in use for those that are not.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    early, late : :py:`In(colors)`
        A bit per color: it may be chosen, by what was known before this cycle; by that and what
        came in it.
    announced : :py:`In(colors)`
        A bit per color: a wavelet of it is announced in this cycle.
    waits : :py:`In(colors)`
        A bit per color: a target is in use.
    changes, conflicting : :py:`In(colors)`
        Colors that get a new route; those that cannot be chosen together with it from now on.
    chosen : :py:`Out(colors)`
        The choice.
    """

    early: Signal
    late: Signal
    announced: Signal
    waits: Signal
    changes: Signal
    conflicting: Signal
    chosen: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        inputs = ("early", "late", "announced", "waits", "changes", "conflicting")
        super().__init__(
            {
                **{name: In(colors) for name in inputs},
                "chosen": Out(colors),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        colors, chosen = self.colors, self.chosen
        present = Signal(colors)
        m.d.comb += present.eq(self.early | self.announced)
        # Of a color k: whether it loses against another, and whether another stands in its way.
        loses, crowded = C(0, colors), C(0, colors)
        for k in range(1, colors):
            # A bit for each color j below k: the two conflict; j was chosen longer ago than k.
            pairs, earlier = Signal(k, name=f"pairs_{k}"), Signal(k, name=f"earlier_{k}")
            changes, conflicting = self.changes[:k], self.conflicting[:k]
            with m.If(self.changes[k]):
                m.d.sync += pairs.eq(conflicting)
            with m.Else():
                new = self.conflicting[k].replicate(k)
                m.d.sync += pairs.eq((pairs & ~changes) | (new & changes))
            m.d.sync += earlier.eq(~chosen[:k] & (chosen[k].replicate(k) | earlier))
            wins = Cat(C(0, k), (self.early[:k] & pairs & earlier).any())
            loses |= wins | (pairs & ~earlier & self.early[k].replicate(k))
            crowds = Cat(C(0, k), (present[:k] & pairs).any())
            crowded |= crowds | (pairs & present[k].replicate(k))
        m.d.comb += chosen.eq(
            ~self.waits & ((self.early & ~loses) | (self.late & ~self.early & ~crowded))
        )
        return m
