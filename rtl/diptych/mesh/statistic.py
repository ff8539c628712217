# SPDX-License-Identifier: BSD-2-Clause
"""Statistic of the vector pipe's instructions."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.square import Square

from .element import Result

__all__ = ["LEAST", "Statistic"]

LEAST = -(2**31)
"""The largest value of no results."""


class Statistic(wiring.Component):
    """Makes the statistic of an instruction from its results, and keeps it until it is sent.

    A result counts in the first cycle in which it is offered. The statistic is found in that of the
    last result, of squares a cycle later; it is shown in the next cycle.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    valid, leaves, result : :py:`In(1)`, :py:`In(1)`, :py:`In(Result(colors))`
        A result is offered; it leaves; the result.
    empty, empty_is_maximum, empty_sends, empty_color : :py:`In(1)`, ..., :py:`In(5)`
        An instruction with a statistic ends without results; that is a signed maximum; it is sent;
        on this color.
    holds : :py:`Out(1)`
        Results must not be sent, and no instruction without results ends: a statistic goes first.
    waits : :py:`Out(1)`
        The result must wait: an older statistic is not sent.
    found, value : :py:`Out(1)`, :py:`Out(32)`
        The statistic of an instruction.
    owed, owed_value, owed_color, owed_bit : :py:`Out(1)`, :py:`Out(32)`, :py:`Out(5)`, :py:`Out(colors)`
        A statistic has to be sent; its value, color, and the color's bit.
    sent : :py:`In(1)`
        It is sent, if there is one.
    busy : :py:`Out(1)`
        A statistic is not shown, or not sent.
    """

    valid: Signal
    leaves: Signal
    result: Any
    empty: Signal
    empty_is_maximum: Signal
    empty_sends: Signal
    empty_color: Signal
    holds: Signal
    waits: Signal
    found: Signal
    value: Signal
    owed: Signal
    owed_value: Signal
    owed_color: Signal
    owed_bit: Signal
    sent: Signal
    busy: Signal

    def __init__(self, colors: int) -> None:
        super().__init__(
            {
                "valid": In(1),
                "leaves": In(1),
                "result": In(Result(colors)),
                "empty": In(1),
                "empty_is_maximum": In(1),
                "empty_sends": In(1),
                "empty_color": In(5),
                "holds": Out(1),
                "waits": Out(1),
                "found": Out(1),
                "value": Out(32),
                "owed": Out(1),
                "owed_value": Out(32),
                "owed_color": Out(5),
                "owed_bit": Out(colors),
                "sent": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.square = square = Square()
        result = self.result
        # What the results before came to, and with this one.
        before = Signal(signed(32), name="so_far")
        now = self._with_result(m, before)
        counts = Signal()
        # The result at hand counts already; a square is on its way, the last one, of one to be sent.
        counted, squared, ends, owes = (
            Signal(name=n) for n in ("counted", "squared", "ends", "owes")
        )
        begins = Signal(name="squares_begin")
        color = Signal(5, name="squares_color")
        total = Signal(32, name="sum_of_squares")
        last = Signal(name="is_last")
        m.d.comb += [
            last.eq(result.ends & result.statistic),
            self.holds.eq(self.owed | owes),
            self.waits.eq(self.holds & result.ends & result.sends_statistic & ~counted),
            counts.eq(self.valid & ~counted & ~self.waits),
            square.enable.eq(counts & result.squares),
            square.value.eq(result.value[:16]),
            square.shift.eq(result.shift),
            total.eq(Mux(begins, 0, before) + square.square),
            self.busy.eq(squared | self.owed | self.found),
        ]
        m.d.sync += [
            counted.eq(self.valid & ~self.leaves & (counted | counts)),
            squared.eq(counts & result.squares & result.statistic),
            owes.eq(counts & result.squares & last & result.sends_statistic),
            begins.eq(result.begins),
            ends.eq(result.ends),
            color.eq(result.color),
        ]
        with m.If(squared):
            m.d.sync += before.eq(total)
        with m.Elif(counts & ~result.squares):
            m.d.sync += before.eq(now)

        found, sends = Signal(name="finds"), Signal()
        value, sent_on = Signal(32, name="finds_value"), Signal(5)
        m.d.comb += [
            found.eq((counts & last & ~result.squares) | (squared & ends) | self.empty),
            sends.eq(Mux(self.empty, self.empty_sends, Mux(squared, owes, result.sends_statistic))),
            sent_on.eq(Mux(self.empty, self.empty_color, Mux(squared, color, result.color))),
            value.eq(
                Mux(squared, total, Mux(self.empty, Mux(self.empty_is_maximum, LEAST, 0), now))
            ),
        ]
        m.d.sync += [self.found.eq(found), self.value.eq(value)]
        with m.If(found & sends):
            m.d.sync += [
                self.owed.eq(1),
                self.owed_value.eq(value),
                self.owed_color.eq(sent_on),
                self.owed_bit.eq(1 << sent_on),
            ]
        with m.Elif(self.sent):
            m.d.sync += self.owed.eq(0)
        return m

    def _with_result(self, m: Module, statistic: Signal) -> Signal:
        """Return the statistic of results that are not squared, with one more.

        The largest magnitude, with ``signed_maximum`` the largest value, with ``adds`` the sum.
        """
        result = self.result
        before, start_value, now = (
            Signal(signed(32), name=name) for name in ("before", "start_value", "final")
        )
        # A magnitude is the flipped value and 1 if that was negative: compared without an addition.
        negates, flipped = Signal(name="negates"), Signal(32, name="flipped")
        signs = [Cat(x, x[-1] & result.signed_maximum).as_signed() for x in (before, flipped)]
        larger = Cat(0, signs[0]).as_signed() < Cat(negates, signs[1]).as_signed()
        m.d.comb += [
            start_value.eq(Mux(result.signed_maximum, LEAST, 0)),
            before.eq(Mux(result.begins, start_value, statistic)),
            negates.eq(result.value[-1] & ~result.signed_maximum),
            flipped.eq(result.value ^ negates.replicate(32)),
            now.eq(Mux(larger, flipped + negates, before)),
        ]
        with m.If(result.adds):
            m.d.comb += now.eq(before + result.value)
        return now
