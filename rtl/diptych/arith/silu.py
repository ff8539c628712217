# SPDX-License-Identifier: BSD-2-Clause
"""The gate of the feed-forward network."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .scale import ScaleWord, round_clamp
from .tables import SIGMOID, add_table, interpolate, segments

__all__ = ["SiluGate"]


class SiluGate(wiring.Component):
    """Computes ``SiLU(gate) * up * word``, saturated to ``+-32767``.

    Argument and result of SiLU have 11 fraction bits, rounded half up; its sigmoid has 15 fraction
    bits, and is constant for arguments of 8 and above. The product with ``up`` is exact, and
    the one with ``word`` is rounded half up.

    The latency is :attr:`latency` enabled cycles (look up; interpolate; three multiplications;
    round, shift and clamp). The throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    gate : :py:`In(signed(16))`
        Argument of SiLU, 11 fraction bits.
    up : :py:`In(signed(16))`
        Factor that is gated.
    word : :py:`In(ScaleWord)`
        Scale of the result.
    result : :py:`Out(signed(16))`
        The result.
    """

    enable: Signal
    gate: Signal
    up: Signal
    word: data.View
    result: Signal

    latency = 6

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "gate": In(signed(16)),
                "up": In(signed(16)),
                "word": In(ScaleWord),
                "result": Out(signed(16)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Operands of the last stages, delayed.
        gates = [
            self.gate,
            *(Signal(signed(16), name=f"gate_{n}", reset_less=True) for n in (1, 2)),
        ]
        ups = [self.up, *(Signal(signed(16), name=f"up_{n}", reset_less=True) for n in (1, 2, 3))]
        words = [
            self.word,
            *(Signal(ScaleWord, name=f"word_{n}", reset_less=True) for n in (1, 2, 3, 4)),
        ]
        shift = Signal(6, reset_less=True)
        with m.If(self.enable):
            for stages in (gates, ups, words):
                for source, target in pairwise(stages):
                    m.d.sync += target.eq(source)
            m.d.sync += shift.eq(words[4].shift)

        magnitude = Signal(16)
        argument = Signal(14)
        fraction = Signal(8, reset_less=True)
        m.d.comb += [
            magnitude.eq(Mux(self.gate[15], -self.gate, self.gate)),
            argument.eq(Mux(magnitude[14:].any(), 2**14 - 1, magnitude[:14])),
        ]
        # Of negative gates 1 less the sigmoid, so that nothing is subtracted behind the multiplier:
        # 2**15 - (x >> 8) is ((2**15 << 8) - x + 255) >> 8.
        rising = segments(SIGMOID)
        falling = [{"knot": 2**15 - row["knot"], "step": -row["step"]} for row in rising]
        segment = add_table(
            m,
            [*rising, *falling],
            address=Cat(argument[8:], self.gate[15]),
            enable=self.enable,
            name="rom",
        )

        sigmoid = Signal(16, reset_less=True)
        silu = Signal(signed(16), reset_less=True)
        gated = Signal(signed(32), reset_less=True)
        product = Signal(signed(48), reset_less=True)
        result = Signal(signed(16), reset_less=True)
        exact = Signal(signed(32))
        between = interpolate(m, segment, fraction, below=gates[1][15].replicate(8), name="between")
        rounded, _ = round_clamp(m, product, shift, Const(2**15 - 1), width=16)
        m.d.comb += exact.eq(gates[2] * sigmoid + 2**14)
        with m.If(self.enable):
            m.d.sync += [
                fraction.eq(argument[:8]),
                sigmoid.eq(between),
                silu.eq(exact[15:31]),
                gated.eq(silu * ups[3]),
                product.eq(gated * words[4].mantissa),
                result.eq(rounded),
            ]

        m.d.comb += self.result.eq(result)
        return m
