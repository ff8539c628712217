# SPDX-License-Identifier: BSD-2-Clause
"""Scale words, and the rounding that every multiplication by one ends in.

A scale word is the positive real number ``mantissa * 2**-shift``. Its 22 bits are the lower bits
of the 32-bit word in which it travels.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data

__all__ = ["MANTISSA_BITS", "SHIFT_BITS", "UNITY", "ScaleWord", "combine", "round_shift"]

MANTISSA_BITS = 16
SHIFT_BITS = 6
UNITY = {"mantissa": 0x8000, "shift": 15}
"""The scale word of 1.0, as an initial value."""

ScaleWord = data.StructLayout({"mantissa": MANTISSA_BITS, "shift": SHIFT_BITS})
"""Mantissa in bits 15..0, shift (0 to 63) in bits 21..16."""

_MAX_SHIFT = 2**SHIFT_BITS - 1


def combine(m: Module, a: data.View, b: data.View, *, name: str = "combined") -> data.View:
    """Add the product of two scale words to a module and return it.

    Combinational: ``mantissa = (a.mantissa * b.mantissa + 2**15) >> 16`` and
    ``shift = clamp(a.shift + b.shift - 16, 0, 63)``.
    """
    word = Signal(ScaleWord, name=name)
    product = Signal(2 * MANTISSA_BITS, name=f"{name}_product")
    total = Signal(SHIFT_BITS + 1, name=f"{name}_total")
    less = Signal(SHIFT_BITS + 1, name=f"{name}_less")
    m.d.comb += [
        product.eq(a.mantissa * b.mantissa + 2**15),
        total.eq(a.shift + b.shift),
        less.eq(total - 16),
        word.mantissa.eq(product[16:]),
        word.shift.eq(Mux(total < 16, 0, Mux(less > _MAX_SHIFT, _MAX_SHIFT, less))),
    ]
    return word


def round_shift(m: Module, product: Value, shift: Value, *, name: str = "rounded") -> Signal:
    """Add ``(product + (1 << shift >> 1)) >> shift`` to a module and return it, in all its bits.

    Combinational: one arithmetic shift by 0 to 63, and an increment.
    """
    shape = Shape.cast(product.shape())
    wide = Shape(shape.width + 1, shape.signed)
    # One bit below the point is kept, so that the increment rounds half up.
    halves = Signal(wide, name=f"{name}_halves")
    rounded = Signal(wide, name=name)
    doubled = Cat(Const(0, 1), product)
    doubled = doubled.as_signed() if shape.signed else doubled
    m.d.comb += [halves.eq(doubled >> shift), rounded.eq((halves + 1) >> 1)]
    return rounded
