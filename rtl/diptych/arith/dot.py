# SPDX-License-Identifier: BSD-2-Clause
"""Dot products of activations and weights."""

from typing import Any

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from diptych.config import ACTIVATION_BITS

__all__ = ["Dot8"]


class Dot8(wiring.Component):
    """Sums the products of 12-bit activations and 8-bit weights, exactly.

    The latency is :attr:`latency` enabled cycles: products, sums of four. The throughput is one dot
    product per enabled cycle.

    Parameters
    ----------
    lanes : :class:`int`
        Number of products; at least 1.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    activations : :py:`In(data.ArrayLayout(signed(12), lanes))`
        Activations.
    weights : :py:`In(data.ArrayLayout(signed(8), lanes))`
        Weights.
    total : :py:`Out(signed(32))`
        Sum of the products: combinational, of registered sums of four.

    Raises
    ------
    ValueError
        If there is no lane.
    """

    enable: Signal
    activations: data.View
    weights: data.View
    total: Signal

    latency = 2

    def __init__(self, *, lanes: int = 8) -> None:
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        self.lanes = lanes
        super().__init__(
            {
                "enable": In(1),
                "activations": In(data.ArrayLayout(signed(ACTIVATION_BITS), lanes)),
                "weights": In(data.ArrayLayout(signed(8), lanes)),
                "total": Out(signed(32)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Wider than the operands need: they are extended by arithmetic (flip the sign bit, take
        # away its weight), and sums have the 32 bits of the result. Otherwise every operator
        # would extend its operands from an odd width, which takes Verilator four times as long.
        sign = 2 ** (ACTIVATION_BITS - 1)
        terms: list[Signal] = []
        for lane in range(self.lanes):
            activation = Signal(signed(16), name=f"activation_{lane}")
            weight = Signal(signed(16), name=f"weight_{lane}")
            product = Signal(signed(32), name=f"product_{lane}")
            m.d.comb += [
                activation.eq((self.activations[lane].as_unsigned() ^ sign) - Const(sign, 15)),
                weight.eq((self.weights[lane].as_unsigned() ^ 0x80) - Const(0x80, 15)),
                product.eq(activation * weight),
            ]
            kept = Signal(signed(32), name=f"kept_{lane}", reset_less=True)
            with m.If(self.enable):
                m.d.sync += kept.eq(product)
            terms.append(kept)

        # Sums of four products at most before the second registers, the rest behind them.
        terms = self._add(m, terms, "sum", rounds=2)
        sums = [Signal(signed(32), name=f"part_{n}", reset_less=True) for n in range(len(terms))]
        with m.If(self.enable):
            m.d.sync += [part.eq(term) for part, term in zip(sums, terms, strict=True)]
        m.d.comb += self.total.eq(self._add(m, sums, "total")[0])
        return m

    @staticmethod
    def _add(
        m: Module, terms: list[Signal], name: str, *, rounds: int | None = None
    ) -> list[Signal]:
        """Add pairs, and pairs of sums, in some rounds or until one is left."""
        while len(terms) > 1 and rounds != 0:
            rounds = None if rounds is None else rounds - 1
            pairs = []
            for index in range(0, len(terms) - 1, 2):
                pair = Signal(signed(32), name=f"{name}_{len(terms)}_{index}")
                m.d.comb += pair.eq(terms[index] + terms[index + 1])
                pairs.append(pair)
            terms = pairs + terms[len(terms) & ~1 :]
        return terms
