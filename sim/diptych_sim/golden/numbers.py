# SPDX-License-Identifier: BSD-2-Clause
"""The integer arithmetic of both panels, bit for bit.

Every function takes and returns NumPy integers (computed in int64) and is the specification of
one block of ``rtl/diptych/arith``. Nothing here knows of models or panels.

A *scale word* is a positive real number ``m * 2**-s`` in 32 bits: mantissa ``m`` in bits 15..0
(unsigned), shift ``s`` in bits 21..16 (unsigned, 0 to 63), upper bits zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]

MANTISSA_BITS = 16
SHIFT_BITS = 6
MAX_SHIFT = 2**SHIFT_BITS - 1
UNITY = 0x8000 | 15 << 16
"""Scale word of 1.0."""
LIMIT16 = 32639
"""Largest magnitude of a two-plane int16: 127 * 256 + 127."""


def _ints(values: ArrayLike) -> Ints:
    return np.asarray(values, dtype=np.int64)


def clamp(values: ArrayLike, bits: int) -> Ints:
    """Saturate symmetrically to ``bits`` signed bits: ``+-(2**(bits - 1) - 1)``."""
    high = 2 ** (bits - 1) - 1
    return np.clip(_ints(values), -high, high)


# --- scale words -------------------------------------------------------------------------------
def scale_word(value: ArrayLike) -> Ints:
    """Nearest scale word of positive real numbers; 0 stays 0.

    Raises
    ------
    ValueError
        If a value is negative or needs a shift outside 0 to 63.
    """
    real = np.asarray(value, dtype=np.float64)
    if np.any(real < 0) or not np.all(np.isfinite(real)):
        raise ValueError(f"Scale must be finite and not negative, not {real.min()!r}")
    safe = np.where(real > 0, real, 1.0)
    shift = 15 - np.floor(np.log2(safe)).astype(np.int64)
    mantissa = np.round(safe * 2.0**shift).astype(np.int64)
    shift = np.where(mantissa == 2**16, shift - 1, shift)
    mantissa = np.where(mantissa == 2**16, 2**15, mantissa)
    if np.any(shift < 0) or np.any((shift > MAX_SHIFT) & (real > 0)):
        raise ValueError(f"Scale must be between 2**-48 and 2**15, not {real.max()!r}")
    return np.where(real > 0, mantissa | shift << 16, 0)


def mantissa_of(word: ArrayLike) -> Ints:
    """Mantissa of scale words."""
    return _ints(word) & 0xFFFF


def shift_of(word: ArrayLike) -> Ints:
    """Shift of scale words."""
    return (_ints(word) >> 16) & MAX_SHIFT


def real_of(word: ArrayLike) -> NDArray[np.float64]:
    """Real value of scale words (for reports; the machine never needs it)."""
    return mantissa_of(word) * 2.0 ** -shift_of(word).astype(np.float64)


def combine(a: ArrayLike, b: ArrayLike) -> Ints:
    """Product of two scale words: mantissas multiplied and rounded half up, shifts added.

    ``m = (a.m * b.m + 2**15) >> 16``, ``s = clip(a.s + b.s - 16, 0, 63)``.
    """
    mantissa = (mantissa_of(a) * mantissa_of(b) + 2**15) >> 16
    shift = np.clip(shift_of(a) + shift_of(b) - 16, 0, MAX_SHIFT)
    return mantissa | shift << 16


def multiply(values: ArrayLike, word: ArrayLike) -> Ints:
    """Integer times scale word, rounded half up once: ``(v * m + (1 << s >> 1)) >> s``.

    ``v`` is int32; the product has 48 bits; the result is saturated to 32 signed bits.
    """
    shift = shift_of(word)
    # Not 1 << shift >> 1, which 63 would make negative.
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return clamp((_ints(values) * mantissa_of(word) + half) >> shift, 32)


def requantize(values: ArrayLike, word: ArrayLike, bits: int, dynamic: ArrayLike = UNITY) -> Ints:
    """``clamp(multiply(values, combine(word, dynamic)), bits)``: the one re-quantization."""
    return clamp(multiply(values, combine(word, dynamic)), bits)


def add_residual(
    x: ArrayLike, values: ArrayLike, word: ArrayLike, dynamic: ArrayLike = UNITY, bits: int = 16
) -> Ints:
    """``clamp(x + requantize(values, word, 32, dynamic), bits)``: the residual stream's addition.

    Also that of a bias ``x`` to what is rounded.
    """
    return clamp(_ints(x) + requantize(values, word, 32, dynamic), bits)


# --- table functions ---------------------------------------------------------------------------
def _exponent(values: Ints) -> Ints:
    """Position of the leading one of positive 32-bit integers."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1


_KNOTS = 1 + np.arange(65) / 64
RECIPROCAL_TABLE = np.minimum(np.round(2.0**16 / _KNOTS), 65535).astype(np.int64)
"""``2**16 / (1 + i / 64)``, i in 0..64, at most 65535."""
RSQRT_TABLE = np.minimum(
    np.round(2.0**16 / np.sqrt(np.concatenate([_KNOTS[:-1], 2 * _KNOTS]))), 65535
).astype(np.int64)
"""``2**16 / sqrt(f)``: 64 knots with f in [1, 2), then 65 with f in [2, 4]."""
EXP_TABLE = np.round(2.0**15 * 2.0 ** (-np.arange(33) / 32)).astype(np.int64)
"""``2**15 * 2**(-i / 32)``, i in 0..32."""
SIGMOID_TABLE = np.round(2.0**15 / (1 + np.exp(-np.arange(65) / 8))).astype(np.int64)
"""``2**15 * sigmoid(i / 8)``, i in 0..64: arguments 0 to 8."""


def _interpolate(table: Ints, index: Ints, fraction: Ints, bits: int) -> Ints:
    """Linear interpolation: ``t[i] + ((t[i + 1] - t[i]) * fraction >> bits)`` (floor)."""
    low = table[index]
    return low + ((table[index + 1] - low) * fraction >> bits)


def to_scale(values: ArrayLike) -> Ints:
    """Scale word of ``v / 2**16`` for unsigned 32-bit ``v``: its upper 16 bits, rounded half up.

    With ``f = v << (31 - e)``: ``m = min((f + 2**15) >> 16, 65535)``, ``s = 31 - e`` (0 -> 0).
    """
    v = _ints(values)
    e = _exponent(np.maximum(v, 1))
    mantissa = np.minimum(((v << (31 - e)) + 2**15) >> 16, 65535)
    return np.where(v > 0, mantissa | (31 - e) << 16, 0)


def reciprocal(values: ArrayLike) -> Ints:
    """Scale word of ``1 / v`` for unsigned 32-bit ``v`` (0 counts as 1).

    ``v`` is normalized to ``f = v << (31 - e)``; bits 30..25 of ``f`` index the table, bits
    24..15 interpolate; the shift is ``16 + e``.
    """
    v = np.maximum(_ints(values), 1)
    e = _exponent(v)
    f = v << (31 - e)
    y = _interpolate(RECIPROCAL_TABLE, (f >> 25) & 63, (f >> 15) & 1023, 10)
    return y | (16 + e) << 16


def rsqrt(values: ArrayLike) -> Ints:
    """Scale word of ``1 / sqrt(v)`` for unsigned 32-bit ``v`` (0 counts as 1).

    As :func:`reciprocal`, with the knots of ``[2, 4)`` when ``e`` is odd; the shift is
    ``16 + (e >> 1)``.
    """
    v = np.maximum(_ints(values), 1)
    e = _exponent(v)
    f = v << (31 - e)
    y = _interpolate(RSQRT_TABLE, ((f >> 25) & 63) + 64 * (e & 1), (f >> 15) & 1023, 10)
    return y | (16 + (e >> 1)) << 16


def exponential(distance: ArrayLike, word: ArrayLike, top: int = 255) -> Ints:
    """``top * 2**-t`` rounded to 0..top, with ``t = multiply(distance, word) / 256``.

    ``distance`` is the row maximum minus the score, at least 0. ``t`` saturates at 4095 (p = 0).
    With ``i = t >> 8``, ``f = t & 255`` and ``y`` the table at ``f`` in 15 fraction bits:
    ``p = (y * top + (1 << (14 + i))) >> (15 + i)``.
    """
    t = np.minimum(multiply(distance, word), 4095)
    whole, fraction = t >> 8, t & 255
    y = _interpolate(EXP_TABLE, fraction >> 3, fraction & 7, 3)
    return (y * top + (np.int64(1) << (14 + whole))) >> (15 + whole)


GATE_FRACTION = 11
"""Fraction bits of a gate value (int16: range +-16)."""


def silu(gate: ArrayLike, fraction: ArrayLike = GATE_FRACTION) -> Ints:
    """SiLU of an int16 with ``fraction`` bits of fraction, at most 11, to the same format.

    ``|g| << (11 - fraction)`` indexes the sigmoid table (bits 13..8; above 8 the last knot) and
    interpolates with bits 7..0; ``sigmoid(-g) = 2**15 - sigmoid(g)``. Rounded half up.
    """
    g = _ints(gate)
    a = np.minimum(np.abs(g) << (GATE_FRACTION - _ints(fraction)), 2**14 - 1)
    y = _interpolate(SIGMOID_TABLE, a >> 8, a & 255, 8)
    y = np.where(g < 0, 2**15 - y, y)
    return (g * y + 2**14) >> 15


def gate(g: ArrayLike, u: ArrayLike, fraction: ArrayLike = GATE_FRACTION) -> Ints:
    """SwiGLU of int16 ``g``, with ``fraction`` bits of fraction, and ``u``: ``silu(g) * u``, int32."""
    return silu(g, fraction) * _ints(u)


def rotate(a: ArrayLike, b: ArrayLike, cosine: ArrayLike, sine: ArrayLike) -> tuple[Ints, Ints]:
    """RoPE of a pair, Q14 factors: ``(a c - b s, a s + b c)``, one rounding each, +-LIMIT16."""
    a, b, c, s = _ints(a), _ints(b), _ints(cosine), _ints(sine)
    first = (a * c - b * s + 2**13) >> 14
    second = (a * s + b * c + 2**13) >> 14
    return np.clip(first, -LIMIT16, LIMIT16), np.clip(second, -LIMIT16, LIMIT16)


def rope_table(positions: int, head_dim: int, theta: float, divisors: ArrayLike = 1.0) -> Ints:
    """Q14 cosine and sine, [positions, head_dim / 2, 2].

    Frequencies are ``theta**(-2 i / head_dim) / divisors[i]``. Source: RoFormer, Su et al. 2021,
    equation 15.
    """
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim) / np.asarray(
        divisors, np.float64
    )
    angles = np.outer(np.arange(positions), frequencies)
    return np.round(np.stack([np.cos(angles), np.sin(angles)], -1) * 2.0**14).astype(np.int64)


# --- two-plane int16 ---------------------------------------------------------------------------
def planes(values: ArrayLike) -> tuple[Ints, Ints]:
    """Split int16 (+-LIMIT16) into signed bytes: ``v = 256 * high + low``."""
    v = _ints(values)
    high = (v + 128) >> 8
    return high, v - 256 * high


def sum_of_squares(x: ArrayLike, shift: int) -> Ints:
    """``sum((x * x) >> shift)`` over the last axis: order-free, unsigned 32 bits."""
    v = _ints(x)
    return ((v * v) >> shift).sum(-1)
