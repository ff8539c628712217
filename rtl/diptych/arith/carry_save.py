# SPDX-License-Identifier: BSD-2-Clause
"""Sums of three numbers without a chain of carries."""

from amaranth.hdl import Module, Signal, Value

__all__ = ["carry_save"]


def carry_save(m: Module, a: Value, b: Value, c: Value, *, name: str) -> tuple[Signal, Signal]:
    """Add two words with the sum of three to a module and return them; all as wide as ``a``.

    Combinational, one level of logic: the sum of each place, and its carries, of which the lowest
    bit is 0.
    """
    width = len(a)
    places, carries = Signal(width, name=f"{name}_places"), Signal(width, name=f"{name}_carries")
    m.d.comb += [places.eq(a ^ b ^ c), carries.eq(((a & b) | (a & c) | (b & c)) << 1)]
    return places, carries
