# SPDX-License-Identifier: BSD-2-Clause
"""Functions of an integer whose result is a scale."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from .one_hot import encode, select
from .scale import SHIFT_BITS, ScaleWord
from .tables import RECIPROCAL, RSQRT, add_table, interpolate, segments

__all__ = ["Function", "ScaleFunction"]


class Function(enum.Enum, shape=2):
    """Functions of :class:`ScaleFunction`.

    ``RECIPROCAL`` is ``1 / v`` and ``RSQRT`` is ``1 / sqrt(v)`` of any ``v`` (0 counts as 1).
    ``TO_SCALE`` is ``v / 2**16``, rounded half up to 16 bits.
    """

    RECIPROCAL = 0
    RSQRT = 1
    TO_SCALE = 2


class ScaleFunction(wiring.Component):
    """Computes a reciprocal, a reciprocal square root, or the scale word of an integer.

    The operand is normalized; its next 6 bits select a segment of a table and 10 more
    interpolate.

    The latency is :attr:`latency` enabled cycles (normalize; look up; interpolate). The
    throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    select : :py:`In(Function)`
        The function.
    value : :py:`In(32)`
        Its operand.
    word : :py:`Out(ScaleWord)`
        Its result.
    """

    enable: Signal
    select: enum.EnumView
    value: Signal
    word: data.View

    latency = 3

    def __init__(self) -> None:
        super().__init__(
            {"enable": In(1), "select": In(Function), "value": In(32), "word": Out(ScaleWord)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # The first four bits that are not all 0, then the first one of them. Zero ends as if its
        # leading one were in bit 0.
        value = self.value
        filled, first = Signal(7), Signal(8)
        coarse, fine, aligned = Signal(32), Signal(2), Signal(32)
        m.d.comb += [
            filled.eq(Cat(value[28 - 4 * n : 32 - 4 * n].any() for n in range(7))),
            first.eq(Cat(Cat(filled, 1)[n] & ~filled[:n].any() for n in range(8))),
            coarse.eq(select(first, [(value << 4 * n)[:32] for n in range(8)])),
            fine.eq(Mux(coarse[31], 0, Mux(coarse[30], 1, 2 | ~coarse[29]))),
            aligned.eq(coarse << fine),
        ]
        zeros = Cat(fine, encode(first))

        normal = Signal(17, reset_less=True)
        leading = Signal(5, reset_less=True)
        is_rsqrt = Signal(reset_less=True)
        is_direct = Signal(reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                normal.eq(aligned[15:]),
                leading.eq(~zeros),
                is_rsqrt.eq(self.select == Function.RSQRT),
                is_direct.eq(self.select == Function.TO_SCALE),
            ]

        fraction = Signal(10, reset_less=True)
        exact = Signal(16, reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        is_exact = Signal(reset_less=True)
        segment = add_table(
            m,
            segments(RECIPROCAL) + segments(RSQRT),
            address=Cat(normal[10:16], is_rsqrt & ~leading[0], is_rsqrt & leading[0]),
            enable=self.enable,
            name="rom",
        )
        with m.If(self.enable):
            m.d.sync += [
                fraction.eq(normal[:10]),
                exact.eq(Mux(normal[1:].all(), normal[1:], normal[1:] + normal[0])),
                is_exact.eq(is_direct),
                shift.eq(
                    Mux(
                        is_direct,
                        Mux(normal[16], ~leading, 0),
                        16 + Mux(is_rsqrt, leading >> 1, leading),
                    )
                ),
            ]

        word = Signal(ScaleWord, reset_less=True)
        between = interpolate(m, segment, fraction, name="between")
        with m.If(self.enable):
            m.d.sync += [word.mantissa.eq(Mux(is_exact, exact, between)), word.shift.eq(shift)]

        m.d.comb += self.word.eq(word)
        return m
