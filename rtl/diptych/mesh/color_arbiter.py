# SPDX-License-Identifier: BSD-2-Clause
"""Choice of the colors that a router passes on."""

from typing import Any

from amaranth.hdl import Module, Signal
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
        conflicts = [Signal(colors, name=f"conflicts_{k}") for k in range(colors)]
        # Bit k of the j-th: color j was chosen longer ago than k. An order of all colors.
        before = [Signal(colors, name=f"before_{j}") for j in range(colors)]
        for k in range(colors):
            for j in range(k):
                pair, earlier = Signal(name=f"conflict_{j}_{k}"), Signal(name=f"before_{j}_{k}")
                with m.If(self.changes[k]):
                    m.d.sync += pair.eq(self.conflicting[j])
                with m.Elif(self.changes[j]):
                    m.d.sync += pair.eq(self.conflicting[k])
                m.d.sync += earlier.eq(~chosen[j] & (chosen[k] | earlier))
                m.d.comb += [
                    conflicts[j][k].eq(pair),
                    conflicts[k][j].eq(pair),
                    before[j][k].eq(earlier),
                    before[k][j].eq(~earlier),
                ]
        for k in range(colors):
            others = [j for j in range(colors) if j != k]
            loses, crowded = (Signal(len(others), name=f"{n}_{k}") for n in ("loses", "crowded"))
            for n, j in enumerate(others):
                m.d.comb += [
                    loses[n].eq(self.early[j] & conflicts[k][j] & before[j][k]),
                    crowded[n].eq(present[j] & conflicts[k][j]),
                ]
            m.d.comb += chosen[k].eq(
                ~self.waits[k]
                & (
                    (self.early[k] & ~loses.any())
                    | (self.late[k] & ~self.early[k] & ~crowded.any())
                )
            )
        return m
