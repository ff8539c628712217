# SPDX-License-Identifier: BSD-2-Clause
"""Gumbel noise: with it, the arg-max of logits is a draw from their softmax."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .one_hot import encode, select
from .tables import GUMBEL, GUMBEL_OCTAVES, add_table, interpolate, segments

__all__ = ["Noise"]

_ROUNDS_IN_STAGE = 2
_STAGES = 4
"""Stages of the cipher."""
_KEY_STEP = 0x9E37
_FRACTION = 9
"""Fraction bits of the logarithm."""


class Noise(wiring.Component):
    """Computes Gumbel noise, ``4 - log2(-log2(u))`` of a random ``u``, from a key and an index.

    The index is encrypted with the key by eight rounds of the cipher Speck32; of the result, the
    highest bit is the half of the unit interval, and the others are the distance from its end. It
    is normalized; 8 segments of an octave interpolate, and the upper half, which has the long tail,
    adds 1 for each octave without a table.

    The latency is :attr:`latency` enabled cycles (four of the cipher; normalize; look up;
    interpolate; shift). The throughput is one element per enabled cycle.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    key : :py:`In(32)`
        The key; constant while elements are under way.
    index : :py:`In(24)`
        The index.
    shift : :py:`In(4)`
        Bits of the 9 after the binary point that are dropped; constant while elements are under
        way.
    noise : :py:`Out(16)`
        The noise, not negative.
    """

    enable: Signal
    key: Signal
    index: Signal
    shift: Signal
    noise: Signal

    latency = _STAGES + 4

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "key": In(32),
                "index": In(24),
                "shift": In(4),
                "noise": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = self._encrypt(m)

        # The first four bits that are not all 0, then the first one of them; the last bit is 1.
        odd = Cat(1, bits[:31])
        filled, first = Signal(7), Signal(8)
        coarse, fine, aligned = Signal(32), Signal(2), Signal(32)
        m.d.comb += [
            filled.eq(Cat(odd[28 - 4 * n : 32 - 4 * n].any() for n in range(7))),
            first.eq(Cat(Cat(filled, 1)[n] & ~filled[:n].any() for n in range(8))),
            coarse.eq(select(first, [(odd << 4 * n)[:32] for n in range(8)])),
            fine.eq(Mux(coarse[31], 0, Mux(coarse[30], 1, 2 | ~coarse[29]))),
            aligned.eq(coarse << fine),
        ]
        zeros = Signal(5, reset_less=True)
        normal = Signal(13, reset_less=True)
        is_upper = Signal(reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                zeros.eq(Cat(fine, encode(first))),
                normal.eq(aligned[18:31]),
                is_upper.eq(bits[31]),
            ]

        last = GUMBEL_OCTAVES - 1
        is_far = Signal()
        octave = Signal(3)
        m.d.comb += [is_far.eq(zeros[3:].any()), octave.eq(Mux(is_far, last, zeros))]
        segment = add_table(
            m,
            [row for knots in GUMBEL for row in segments(knots)],
            address=Cat(normal[10:], octave, is_upper),
            enable=self.enable,
            name="rom",
        )
        fraction = Signal(10, reset_less=True)
        # Octaves without a table, in the stages behind.
        beyond = [Signal(5, name=f"beyond_{n}", reset_less=True) for n in range(2)]
        between = interpolate(m, segment, fraction, name="between")
        value = Signal(16, reset_less=True)
        total = Signal(16)
        m.d.comb += total.eq(Cat(value[:_FRACTION], value[_FRACTION:] + beyond[1]))
        with m.If(self.enable):
            m.d.sync += [
                fraction.eq(normal[:10]),
                beyond[0].eq(Mux(is_far & is_upper, zeros - last, 0)),
                beyond[1].eq(beyond[0]),
                value.eq(between),
                self.noise.eq(total >> self.shift),
            ]
        return m

    def _encrypt(self, m: Module) -> Value:
        """Return the encrypted index, from registers."""
        halves = self.key[:16], self.key[16:]
        x, y = Cat(self.index[16:], *[0] * 8), self.index[:16]
        for n in range(_STAGES * _ROUNDS_IN_STAGE):
            sums, mixed, x_new, y_new = (
                Signal(16, name=f"{name}_{n}") for name in ("sum", "mixed", "x", "y")
            )
            m.d.comb += [
                sums.eq(Cat(x[7:16], x[:7]) + y),
                mixed.eq(sums ^ halves[n % 2] ^ (n * _KEY_STEP & 0xFFFF)),
                x_new.eq(mixed),
                y_new.eq(Cat(y[14:16], y[:14]) ^ mixed),
            ]
            x, y = x_new, y_new
            if n % _ROUNDS_IN_STAGE == _ROUNDS_IN_STAGE - 1:
                registers = [Signal(16, name=f"{name}_after_{n}", reset_less=True) for name in "xy"]
                with m.If(self.enable):
                    m.d.sync += [registers[0].eq(x), registers[1].eq(y)]
                x, y = registers
        return Cat(y, x)
