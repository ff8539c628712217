# SPDX-License-Identifier: BSD-2-Clause
"""Dot products of bytes."""

from typing import Any

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Dot8"]


class Dot8(wiring.Component):
    """Sums the products of 8-bit activations and 8-bit weights, exactly.

    The latency is :attr:`latency` enabled cycle. The throughput is one dot product per enabled
    cycle.

    Parameters
    ----------
    lanes : :class:`int`
        Number of products; at least 1.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    is_unsigned : :py:`In(1)`
        Whether the activations are unsigned (probabilities), not signed.
    activations : :py:`In(data.ArrayLayout(8, lanes))`
        Activations, as bits.
    weights : :py:`In(data.ArrayLayout(signed(8), lanes))`
        Weights.
    total : :py:`Out(signed(32))`
        Sum of the products.

    Raises
    ------
    ValueError
        If there is no lane.
    """

    enable: Signal
    is_unsigned: Signal
    activations: data.View
    weights: data.View
    total: Signal

    latency = 1

    def __init__(self, *, lanes: int = 8) -> None:
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        self.lanes = lanes
        super().__init__(
            {
                "enable": In(1),
                "is_unsigned": In(1),
                "activations": In(data.ArrayLayout(8, lanes)),
                "weights": In(data.ArrayLayout(signed(8), lanes)),
                "total": Out(signed(32)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        is_signed = Signal()
        m.d.comb += is_signed.eq(~self.is_unsigned)
        terms: list[Value] = []
        for lane in range(self.lanes):
            bits = self.activations[lane]
            activation = Signal(signed(9), name=f"activation_{lane}")
            product = Signal(signed(17), name=f"product_{lane}")
            m.d.comb += [
                activation[:8].eq(bits),
                activation[8].eq(bits[7] & is_signed),
                product.eq(activation * self.weights[lane]),
            ]
            terms.append(product)

        while len(terms) > 1:
            pairs = [left + right for left, right in zip(terms[0::2], terms[1::2], strict=False)]
            terms = pairs + terms[len(terms) & ~1 :]
        total = Signal(signed(32), reset_less=True)
        with m.If(self.enable):
            m.d.sync += total.eq(terms[0])

        m.d.comb += self.total.eq(total)
        return m
