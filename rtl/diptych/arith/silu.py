# SPDX-License-Identifier: BSD-2-Clause
"""The gate of the feed-forward network."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .tables import SIGMOID, add_table, interpolate, segments

__all__ = ["SiluGate"]


class SiluGate(wiring.Component):
    """Computes ``SiLU(gate) * up``, exactly but for SiLU.

    Argument and result of SiLU have ``11 - shift`` fraction bits, rounded half up; its sigmoid has
    15 fraction bits, and is constant for arguments of 8 and above.

    The latency is :attr:`latency` enabled cycles (shift; look up; interpolate; two
    multiplications). The throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    gate : :py:`In(signed(16))`
        Argument of SiLU.
    shift : :py:`In(4)`
        11 less the fraction bits of the gate; 0 to 11.
    up : :py:`In(signed(16))`
        Factor that is gated.
    result : :py:`Out(signed(32))`
        The result.
    """

    enable: Signal
    gate: Signal
    shift: Signal
    up: Signal
    result: Signal

    latency = 5

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "gate": In(signed(16)),
                "shift": In(4),
                "up": In(signed(16)),
                "result": Out(signed(32)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Operands of the last stages, delayed.
        gates = [
            self.gate,
            *(Signal(signed(16), name=f"gate_{n}", reset_less=True) for n in (1, 2, 3)),
        ]
        ups = [
            self.up,
            *(Signal(signed(16), name=f"up_{n}", reset_less=True) for n in (1, 2, 3, 4)),
        ]
        with m.If(self.enable):
            for stages in (gates, ups):
                for source, target in pairwise(stages):
                    m.d.sync += target.eq(source)

        magnitude = Signal(16)
        shifted = Signal(27)
        argument = Signal(14, reset_less=True)
        fraction = Signal(8, reset_less=True)
        m.d.comb += [
            magnitude.eq(Mux(self.gate[15], -self.gate, self.gate)),
            shifted.eq(magnitude << self.shift),
        ]
        # Of negative gates 1 less the sigmoid, so that nothing is subtracted behind the multiplier:
        # 2**15 - (x >> 8) is ((2**15 << 8) - x + 255) >> 8.
        rising = segments(SIGMOID)
        falling = [{"knot": 2**15 - row["knot"], "step": -row["step"]} for row in rising]
        segment = add_table(
            m,
            [*rising, *falling],
            address=Cat(argument[8:], gates[1][15]),
            enable=self.enable,
            name="rom",
        )

        sigmoid = Signal(16, reset_less=True)
        silu = Signal(signed(16), reset_less=True)
        result = Signal(signed(32), reset_less=True)
        exact = Signal(signed(32))
        between = interpolate(m, segment, fraction, below=gates[2][15].replicate(8), name="between")
        m.d.comb += [exact.eq(gates[3] * sigmoid + 2**14), self.result.eq(result)]
        with m.If(self.enable):
            m.d.sync += [
                argument.eq(Mux(shifted[14:].any(), 2**14 - 1, shifted[:14])),
                fraction.eq(argument[:8]),
                sigmoid.eq(between),
                silu.eq(exact[15:31]),
                result.eq(silu * ups[4]),
            ]
        return m
