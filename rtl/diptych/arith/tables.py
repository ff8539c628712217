# SPDX-License-Identifier: BSD-2-Clause
"""The tables of the arithmetic, and linear interpolation between their knots.

A table is stored as *segments*: the value at a knot, and the step to the next knot. One read is
enough to interpolate.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike, signed
from amaranth.lib import data, memory

__all__ = [
    "EXPONENTIAL",
    "GUMBEL",
    "GUMBEL_OCTAVES",
    "RECIPROCAL",
    "RSQRT",
    "SIGMOID",
    "Segment",
    "add_table",
    "interpolate",
    "segments",
]

RECIPROCAL = tuple(min(round(2**16 / (1 + i / 64)), 65535) for i in range(65))
"""``2**16 / (1 + i / 64)``, at most 65535."""
RSQRT = tuple(
    min(round(2**16 / math.sqrt(f)), 65535)
    for f in [*(1 + i / 64 for i in range(64)), *(2 + i / 32 for i in range(65))]
)
"""``2**16 / sqrt(f)``: 64 knots with f in [1, 2), then 65 with f in [2, 4]."""
EXPONENTIAL = tuple(round(2**15 * 2 ** (-i / 32)) for i in range(33))
"""``2**15 * 2**(-i / 32)``."""
SIGMOID = tuple(round(2**15 / (1 + math.exp(-i / 8))) for i in range(65))
"""``2**15 * sigmoid(i / 8)``."""

GUMBEL_OCTAVES = 8
"""Octaves of each half of :data:`GUMBEL`."""


def _gumbel(octave: int, part: int, *, is_upper: bool) -> int:
    width = 2.0 ** -(octave + 2) * (1 + part / 8)
    uniform = 1 - width if is_upper else width
    return round(512 * (4 - math.log2(-math.log2(uniform))))


GUMBEL = tuple(
    tuple(_gumbel(octave, part, is_upper=is_upper) for part in range(9))
    for is_upper in (False, True)
    for octave in range(GUMBEL_OCTAVES)
)
"""``512 (4 - log2(-log2(u)))``: the knots of the octaves of ``u`` below a half, and of ``1 - u``."""

Segment = data.StructLayout({"knot": 16, "step": signed(11)})
"""Value at a knot, and the difference of the next knot's value from it."""


def segments(knots: Sequence[int]) -> list[dict[str, int]]:
    """Return the segments between knots: one fewer than there are knots."""
    return [{"knot": low, "step": high - low} for low, high in pairwise(knots)]


def add_table(
    m: Module, rows: Sequence[dict[str, int]], *, address: ValueLike, enable: ValueLike, name: str
) -> data.View:
    """Add a read-only memory of segments to a module and return its output.

    The output is a register: it shows the segment at ``address`` one cycle later, and holds while
    ``enable`` is low.
    """
    init: Any = rows  # the stubs know of initial values of plain shapes only
    # In logic, as it is small: a block RAM shows its output much later than a register.
    rom = memory.Memory(shape=Segment, depth=len(rows), init=init, attrs={"rom_style": "logic"})
    m.submodules[name] = rom
    port = rom.read_port()
    m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
    return port.data


def interpolate(
    m: Module, segment: data.View, fraction: Value, *, name: str, below: ValueLike = 0
) -> Signal:
    """Add ``knot + (step * fraction + below >> len(fraction))`` to a module and return it.

    The result has 16 bits. ``below`` has as many bits as ``fraction``, without a sign.
    """
    bits = len(fraction)
    total = Signal(16 + bits, name=f"{name}_total")
    rest = Signal(bits, name=f"{name}_below")
    value = Signal(16, name=name)
    # The knot joins before the shift, which is then a slice of a positive number.
    m.d.comb += [
        rest.eq(below),
        total.eq(Cat(rest, segment.knot) + segment.step * fraction),
        value.eq(total[bits:]),
    ]
    return value
