# SPDX-License-Identifier: BSD-2-Clause
"""Gumbel noise: sampling from a softmax is an arg-max of logits with it.

It is a function of a key and an index alone, so that it is the same wherever and whenever it is
computed. Logarithms are to base 2, in units of :data:`UNIT`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.golden.numbers import Ints

__all__ = ["KEY_STEP", "LARGEST", "UNIT", "key_of", "noise", "scrambled"]

FRACTION_BITS = 9
UNIT = 2.0**-FRACTION_BITS
"""Unit of noise that is not shifted."""
INDEX_BITS = 24
"""Bits of an index that count."""
ROUNDS = 8
_OFFSET = 4
"""What noise is above the logarithm, so that none is negative."""
_OCTAVES, _PARTS = 8, 8
"""Octaves that have a table, and segments of each."""
_PLACES = 10
"""Bits that interpolate in a segment."""


def _knots() -> Ints:
    """Knots ``[half, octave, part]`` of the table; ``half`` 1 is that of large numbers."""
    octave, part = np.ogrid[:_OCTAVES, : _PARTS + 1]
    width = 2.0 ** -(octave + 2) * (1 + part / _PARTS)
    logs = np.stack([-np.log2(-np.log2(width)), -np.log2(-np.log2(1 - width))])
    return np.round((logs + _OFFSET) / UNIT).astype(np.int64)


TABLE = _knots()
LARGEST = int(TABLE[1, -1, 0]) + (31 - (_OCTAVES - 1) << FRACTION_BITS)
"""The largest noise."""


def _rotated(x: Ints, places: int) -> Ints:
    return (x << places | x >> (16 - places)) & 0xFFFF


def scrambled(key: ArrayLike, index: ArrayLike) -> Ints:
    """Return 32 random bits for an index: it, encrypted with a 32-bit key.

    Eight rounds of the cipher Speck with words of 16 bits (Beaulieu et al. 2013), the key's halves
    being used in turn, combined with the multiples of 0x9E37.
    """
    key, index = np.broadcast_arrays(np.asarray(key, np.int64), np.asarray(index, np.int64))
    x, y = index >> 16 & 0xFF, index & 0xFFFF
    for n in range(ROUNDS):
        half = (key >> 16 * (n & 1)) & 0xFFFF
        x = (_rotated(x, 9) + y & 0xFFFF) ^ half ^ (n * 0x9E37 & 0xFFFF)
        y = _rotated(y, 2) ^ x
    return x << 16 | y


def noise(key: ArrayLike, index: ArrayLike, shift: ArrayLike = 0) -> Ints:
    """Return the noise of an index, 0 to :data:`LARGEST`, shifted right by ``shift``.

    Bit 31 of :func:`scrambled` is the half, and ``w = (2 n + 1) / 2**33`` of the other bits ``n``
    the distance from its end: noise is ``4 - log2(-log2(u))`` with ``u = w`` in the lower half,
    ``u = 1 - w`` in the upper one. An octave of ``w`` has 8 segments; below ``2**-9`` the lower
    half repeats its last octave, the upper one adds 1 for each.
    """
    bits = scrambled(key, index)
    half = bits >> 31
    odd = (bits & 0x7FFFFFFF) << 1 | 1
    zeros = 32 - np.frexp(odd.astype(np.float64))[1].astype(np.int64)
    normal = odd << zeros
    octave = np.minimum(zeros, _OCTAVES - 1)
    part, fraction = normal >> 28 & 7, normal >> 18 & 1023
    low, high = TABLE[half, octave, part], TABLE[half, octave, part + 1]
    value = low + ((high - low) * fraction >> _PLACES)
    value += (half * (zeros - octave)) << FRACTION_BITS
    return value >> np.asarray(shift, np.int64)


KEY_STEP = 0x9E3779B9
"""From the key of a position to that of the next."""


def key_of(seed: int, position: ArrayLike) -> NDArray[np.int64]:
    """Return the key of the token at a position of a text.

    They differ by :data:`KEY_STEP`; that of position 0 is the scrambled seed.
    """
    start = int(scrambled(seed, 0))
    return (start + np.asarray(position, np.int64) * KEY_STEP) & 0xFFFFFFFF
