# SPDX-License-Identifier: BSD-2-Clause
"""Rotary position embedding, and the two byte planes of its result."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LIMIT", "Rotate", "planes"]

LIMIT = 127 * 256 + 127
"""Largest magnitude that two planes of signed bytes hold."""


def planes(m: Module, value: Value, *, name: str = "plane") -> tuple[Signal, Signal]:
    """Add the split ``value = 256 * high + low`` to a module and return high and low.

    Combinational. Both are :py:`signed(8)`; the value must be within :data:`LIMIT`.
    """
    high = Signal(signed(8), name=f"{name}_high")
    low = Signal(signed(8), name=f"{name}_low")
    m.d.comb += [high.eq((value + 128) >> 8), low.eq(value[:8])]
    return high, low


class Rotate(wiring.Component):
    """Rotates a pair: ``(a cosine - b sine, a sine + b cosine)``.

    Each sum is exact, rounded half up once, and saturated to :data:`LIMIT`.

    The latency is :attr:`latency` enabled cycles (multiply; add, round and clamp). The throughput
    is one pair per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    a, b : :py:`In(signed(16))`
        The pair.
    cosine, sine : :py:`In(signed(16))`
        Factors with 14 fraction bits, within +-1.
    rotated_a, rotated_b : :py:`Out(signed(16))`
        The rotated pair.
    """

    enable: Signal
    a: Signal
    b: Signal
    cosine: Signal
    sine: Signal
    rotated_a: Signal
    rotated_b: Signal

    latency = 2

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "a": In(signed(16)),
                "b": In(signed(16)),
                "cosine": In(signed(16)),
                "sine": In(signed(16)),
                "rotated_a": Out(signed(16)),
                "rotated_b": Out(signed(16)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def product(name: str, left: Value, right: Value) -> Signal:
            # Factors within +-1 leave one bit of 32 for the sum, and one for the rounding.
            register = Signal(signed(32), name=name, reset_less=True)
            with m.If(self.enable):
                m.d.sync += register.eq(left * right)
            return register

        a_cosine = product("a_cosine", self.a, self.cosine)
        b_sine = product("b_sine", self.b, self.sine)
        a_sine = product("a_sine", self.a, self.sine)
        b_cosine = product("b_cosine", self.b, self.cosine)

        def rounded(name: str, total: Value, output: Signal) -> None:
            exact = Signal(signed(32), name=f"{name}_exact")
            more = Signal(signed(32), name=f"{name}_more")
            register = Signal(signed(16), name=f"{name}_register", reset_less=True)
            m.d.comb += [exact.eq(total), more.eq(exact + 2**13), output.eq(register)]
            with m.If(self.enable):
                m.d.sync += register.eq(
                    Mux(
                        more >= (LIMIT + 1) << 14,
                        LIMIT,
                        Mux(more < -LIMIT << 14, Const(-LIMIT, 16), more[14:30]),
                    )
                )

        rounded("rotated_a", a_cosine - b_sine, self.rotated_a)
        rounded("rotated_b", a_sine + b_cosine, self.rotated_b)
        return m
