# SPDX-License-Identifier: BSD-2-Clause
"""The statistics of RMSNorm, element by element."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Square"]


class Square(wiring.Component):
    """Computes ``(value * value) >> shift`` and ``abs(value)``.

    The latency is :attr:`latency` enabled cycle. The throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    value : :py:`In(signed(16))`
        The element.
    shift : :py:`In(5)`
        Bits that are dropped from the square, so that the sum of a row fits 32 bits.
    square : :py:`Out(31)`
        The shifted square.
    magnitude : :py:`Out(16)`
        The absolute value; of -32768, too.
    """

    enable: Signal
    value: Signal
    shift: Signal
    square: Signal
    magnitude: Signal

    latency = 1

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "value": In(signed(16)),
                "shift": In(5),
                "square": Out(31),
                "magnitude": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        magnitude = Signal(16)
        exact = Signal(31)
        m.d.comb += [
            magnitude.eq(Mux(self.value[15], -self.value, self.value)),
            # Of the value itself, so that the multiplier does not wait for its magnitude.
            exact.eq(self.value * self.value),
        ]
        square_register = Signal(31, reset_less=True)
        magnitude_register = Signal(16, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [square_register.eq(exact >> self.shift), magnitude_register.eq(magnitude)]

        m.d.comb += [self.square.eq(square_register), self.magnitude.eq(magnitude_register)]
        return m
