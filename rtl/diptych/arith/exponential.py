# SPDX-License-Identifier: BSD-2-Clause
"""The exponential of the softmax."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .scale import SHIFT_BITS, ScaleWord, round_off
from .tables import EXPONENTIAL, add_table, interpolate, segments

__all__ = ["Exponential"]


class Exponential(wiring.Component):
    """Computes ``top * 2**-t``, where ``t`` is ``distance`` times ``word`` by 256.

    ``t`` is rounded half up to 8 fraction bits and saturates just below 16, where the result is
    0 as well as for everything beyond. A table of 32 segments with 15 fraction bits gives the
    fraction of the power, and one more rounding the result.

    The latency is :attr:`latency` enabled cycles (multiply; round, saturate and look
    up; interpolate; scale and round). The throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    distance : :py:`In(32)`
        Maximum of the row minus the score.
    word : :py:`In(ScaleWord)`
        Steps of 1/256 of ``t`` per unit of distance.
    is_byte : :py:`In(1)`
        ``top`` is 255, else 2047; constant while elements are under way.
    power : :py:`Out(11)`
        The result: ``top`` at no distance.
    """

    enable: Signal
    distance: Signal
    word: data.View
    is_byte: Signal
    power: Signal

    latency = 4

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "distance": In(32),
                "word": In(ScaleWord),
                "is_byte": In(1),
                "power": Out(11),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        product = Signal(48, reset_less=True)
        shift = Signal(SHIFT_BITS, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                product.eq(self.distance * self.word.mantissa),
                shift.eq(self.word.shift),
            ]

        # The power of a saturated one is 0: it must not wait for the saturation to be looked up.
        exponent, beyond, _ = round_off(m, product, shift, Const(4095), width=12, name="exponent")
        segment = add_table(
            m,
            segments(EXPONENTIAL),
            address=exponent[3:8],
            enable=self.enable,
            name="rom",
        )
        fraction = Signal(3, reset_less=True)
        whole = Signal(4, reset_less=True)
        vanishes = Signal(2, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                fraction.eq(exponent[:3]),
                whole.eq(exponent[8:]),
                vanishes.eq(Cat(beyond, vanishes)),
            ]

        mantissa = Signal(16, reset_less=True)
        places = Signal(4, reset_less=True)
        between = interpolate(m, segment, fraction, name="between")
        with m.If(self.enable):
            m.d.sync += [mantissa.eq(between), places.eq(whole)]

        power = Signal(11, reset_less=True)
        scaled = Signal(27)
        halves = Signal(13)
        m.d.comb += [
            scaled.eq(Mux(self.is_byte, mantissa << 8, mantissa << 11) - mantissa),
            halves.eq(scaled[14:] >> places),
        ]
        with m.If(self.enable):
            m.d.sync += power.eq(Mux(vanishes[1], 0, (halves + 1) >> 1))

        m.d.comb += self.power.eq(power)
        return m
