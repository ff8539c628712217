# SPDX-License-Identifier: BSD-2-Clause
"""Re-quantization: from a sum to the next layer's integer."""

from typing import Any

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .scale import SHIFT_BITS, ScaleWord, combine, round_clamp

__all__ = ["Requantizer"]


class Requantizer(wiring.Component):
    """Multiplies by two scale words, rounds half up once, and saturates symmetrically.

    ``result = clamp((value * c.mantissa + (1 << c.shift >> 1)) >> c.shift)``, where ``c`` is the
    product of the scale words (:func:`.combine`) and the clamp is to ``+-(2**(bits - 1) - 1)``.
    :data:`.UNITY` as one of the words keeps the other, less the lowest bit of its mantissa; its
    shift must then be at least 1.

    The latency is :attr:`latency` enabled cycles (combine; multiply; round, shift and clamp). The
    throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    value : :py:`In(signed(32))`
        A sum.
    word : :py:`In(ScaleWord)`
        A scale that is known beforehand.
    dynamic : :py:`In(ScaleWord)`
        A scale that comes with the data.
    bits : :py:`In(6)`
        Number of bits of the result, 2 to 32: 8 for an activation, 16 for two planes, 32 for
        everything.
    result : :py:`Out(signed(32))`
        The result, sign-extended.
    saturated : :py:`Out(1)`
        Whether this result was clamped.
    """

    enable: Signal
    value: Signal
    word: data.View
    dynamic: data.View
    bits: Signal
    result: Signal
    saturated: Signal

    latency = 3

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "value": In(signed(32)),
                "word": In(ScaleWord),
                "dynamic": In(ScaleWord),
                "bits": In(6),
                "result": Out(signed(32)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        value = Signal(signed(32), reset_less=True)
        scale = Signal(ScaleWord, reset_less=True)
        bits = Signal(6, reset_less=True)
        combined = combine(m, self.word, self.dynamic)
        with m.If(self.enable):
            m.d.sync += [value.eq(self.value), scale.eq(combined), bits.eq(self.bits)]

        product = Signal(signed(48), reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        limit = Signal(31, reset_less=True)
        unused = Signal(5)
        m.d.comb += unused.eq(32 - bits)
        with m.If(self.enable):
            m.d.sync += [
                product.eq(value * scale.mantissa),
                shift.eq(scale.shift),
                limit.eq(Const(2**31 - 1, 31) >> unused),
            ]

        result = Signal(signed(32), reset_less=True)
        saturated = Signal(reset_less=True)
        rounded, clamped = round_clamp(m, product, shift, limit, width=32)
        with m.If(self.enable):
            m.d.sync += [result.eq(rounded), saturated.eq(clamped)]

        m.d.comb += [self.result.eq(result), self.saturated.eq(saturated)]
        return m
