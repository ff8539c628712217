# SPDX-License-Identifier: BSD-2-Clause
"""Scale words, and the rounding after a multiplication by one.

A scale word is the positive real number ``mantissa * 2**-shift``. Its 22 bits are the lower bits
of the 32-bit word in which it travels.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, ValueLike
from amaranth.lib import data

__all__ = [
    "MANTISSA_BITS",
    "SHIFT_BITS",
    "UNITY",
    "ScaleWord",
    "combine",
    "combined",
    "round_clamp",
]

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
    product = Signal(2 * MANTISSA_BITS, name=f"{name}_product")
    m.d.comb += product.eq(a.mantissa * b.mantissa)
    return combined(m, product, a.shift, b.shift, name=name)


def combined(
    m: Module, product: Value, a_shift: Value, b_shift: Value, *, name: str = "combined"
) -> data.View:
    """Add :func:`combine` to a module and return its word, from the product of the mantissas."""
    word = Signal(ScaleWord, name=name)
    rounded = Signal(2 * MANTISSA_BITS, name=f"{name}_rounded")
    total = Signal(SHIFT_BITS + 1, name=f"{name}_total")
    less = Signal(SHIFT_BITS + 1, name=f"{name}_less")
    m.d.comb += [
        rounded.eq(product + 2**15),
        total.eq(a_shift + b_shift),
        less.eq(total - 16),
        word.mantissa.eq(rounded[16:]),
        word.shift.eq(Mux(total < 16, 0, Mux(less > _MAX_SHIFT, _MAX_SHIFT, less))),
    ]
    return word


def round_clamp(
    m: Module, product: Value, shift: Value, limit: ValueLike, *, width: int, name: str = "rounded"
) -> tuple[Signal, Signal]:
    """Add a rounded and saturated product to a module; return it, and whether it saturated.

    Combinational: ``(product + (1 << shift >> 1)) >> shift``, clamped to ``+-limit``, in ``width``
    bits, signed as the product is. The shift is 0 to 63. The limit is ``2**n - 1`` for an ``n`` of
    at least 1, so that no comparison has a carry.
    """
    rounded, clamped, negative = round_off(m, product, shift, limit, width=width, name=name)
    result = Signal(rounded.shape(), name=f"{name}_result")
    least = ~_wide(Value.cast(limit), width) | 1
    m.d.comb += result.eq(Mux(clamped, Mux(negative, least, limit), rounded))
    return result, clamped


def round_off(
    m: Module, product: Value, shift: Value, limit: ValueLike, *, width: int, name: str
) -> tuple[Signal, Signal, Signal]:
    """Add a rounded product to a module, which is wrong if it must be saturated.

    Return it, whether it must, and whether the product is negative. Combinational; parameters are
    those of :func:`round_clamp`.
    """
    shape = Shape.cast(product.shape())
    rounded = Signal(Shape(width, shape.signed), name=name)
    clamped = Signal(name=f"{name}_clamped")
    # One fraction bit is kept, and added to round half up. Saturation is decided before that
    # addition: beside it in hardware, and because wide sums are slow in simulation.
    halves = Signal(Shape(shape.width + 1, shape.signed), name=f"{name}_halves")
    negative = Signal(name=f"{name}_negative")
    distance = Signal(shape.width + 1, name=f"{name}_distance")  # from 0, or from -1 down
    edge = Signal(len(Value.cast(limit)) + 1, name=f"{name}_edge")
    doubled = Cat(Const(0, 1), product)
    m.d.comb += [
        halves.eq((doubled.as_signed() if shape.signed else doubled) >> shift),
        negative.eq(halves[-1] if shape.signed else 0),
        distance.eq(Mux(negative, ~halves, halves)),
        edge.eq(Cat(Const(1, 1), limit)),
        # At least ``edge``, whose bits are ones: more bits, or all of its bits.
        clamped.eq((distance & ~_wide(edge, len(distance))).any() | ((distance & edge) == edge)),
        rounded.eq(halves[1 : width + 1] + halves[0]),
    ]
    return rounded, clamped, negative


def _wide(value: Value, width: int) -> Value:
    """Return an unsigned value with zeros above it."""
    return Cat(value, Const(0, width - len(value)))
