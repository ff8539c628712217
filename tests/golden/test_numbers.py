# SPDX-License-Identifier: BSD-2-Clause
"""Properties of the integer arithmetic, against big integers and real numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych_sim.golden import numbers

MANTISSAS = st.integers(0, 2**16 - 1)
NORMAL = st.integers(2**15, 2**16 - 1)
# A shift of 63 overflows the model's 64-bit half; see test_shift_of_63_leaves_nothing.
SHIFTS = st.integers(0, 62)
INT32 = st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300)
INT16 = st.integers(-(2**15), 2**15 - 1)
UINT32 = st.integers(0, 2**32 - 1) | st.integers(0, 70_000)


def _word(mantissa: int, shift: int) -> int:
    return mantissa | shift << 16


def _exact(word: int) -> Fraction:
    return Fraction(word & 0xFFFF, 2 ** (word >> 16))


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _saturate(value: int, bits: int) -> int:
    limit = 2 ** (bits - 1) - 1
    return max(-limit, min(limit, value))


# --- scale words -------------------------------------------------------------------------------
@given(st.floats(2.0**-47, 2.0**15, exclude_max=True))
@example(0.99999999)
def test_scale_word_is_the_nearest(value):
    word = int(numbers.scale_word(value))
    assert word & 0x8000
    assert abs(_exact(word) - Fraction(value)) <= Fraction(value) / 2**16


def test_scale_word_of_zero_is_zero():
    assert numbers.scale_word([0.0, 1.0]).tolist() == [0, numbers.UNITY]


@pytest.mark.parametrize("value", [-1.0, 2.0**-50, 2.0**16, math.nan, math.inf])
def test_scale_word_rejects_what_has_none(value):
    with pytest.raises(ValueError, match=r"^Scale must be "):
        numbers.scale_word(value)


@given(MANTISSAS, st.integers(0, 63), MANTISSAS, st.integers(0, 63))
def test_combine_equals_big_integers(m, s, n, t):
    word = int(numbers.combine(_word(m, s), _word(n, t)))
    assert word == _word((m * n + 2**15) >> 16, min(max(s + t - 16, 0), 63))


@given(NORMAL, NORMAL, st.integers(0, 63), st.integers(0, 63))
def test_combine_is_within_a_bit_of_the_product(m, n, s, t):
    a, b = _word(m, s), _word(n, t)
    if 16 <= s + t <= 79:
        exact = _exact(a) * _exact(b)
        # Half of the mantissa's last bit; the mantissa has 15 bits at least.
        assert abs(_exact(int(numbers.combine(a, b))) - exact) <= exact / 2**15


@given(MANTISSAS, st.integers(1, 63))
def test_combine_with_unity_drops_the_lowest_bit(m, s):
    assert int(numbers.combine(_word(m, s), numbers.UNITY)) == _word((m + 1) >> 1, s - 1)


@given(INT32, MANTISSAS, SHIFTS)
@example(-(2**31), 0xFFFF, 0)
@example(-(2**31), 0xFFFF, 48)
@example(2**31 - 1, 0xFFFF, 62)
@example(-3, 0x8000, 16)  # a tie, which rounds up
def test_multiply_equals_big_integers(value, mantissa, shift):
    word = _word(mantissa, shift)
    assert int(numbers.multiply(value, word)) == _saturate(_half_up(value * _exact(word)), 32)


@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_shift_of_63_leaves_nothing(value):
    assert int(numbers.multiply(value, _word(0xFFFF, 63))) == 0


@given(INT32, NORMAL, SHIFTS, st.integers(2, 32))
def test_requantize_is_one_multiply_and_one_clamp(value, mantissa, shift, bits):
    # Even, so that unity takes nothing away.
    word = _word(mantissa & ~1, max(shift, 1))
    expected = _saturate(_half_up(value * _exact(word)), bits)
    assert int(numbers.requantize(value, word, bits)) == expected


# --- table functions ---------------------------------------------------------------------------
@given(UINT32.filter(bool))
@example(1)
@example(2**32 - 1)
def test_reciprocal_error(value):
    got = float(numbers.real_of(numbers.reciprocal(value)))
    assert abs(got * value - 1) <= 2.0**-13.7


@given(UINT32.filter(bool))
@example(1)
@example(2**32 - 1)
def test_rsqrt_error(value):
    got = float(numbers.real_of(numbers.rsqrt(value)))
    assert abs(got * math.sqrt(value) - 1) <= 2.0**-14.5


def test_zero_counts_as_one():
    assert numbers.reciprocal(0) == numbers.reciprocal(1)
    assert numbers.rsqrt(0) == numbers.rsqrt(1)


@given(st.integers(0, 2**32 - 1), MANTISSAS, SHIFTS)
def test_exponential_saturates_and_never_leaves_a_byte(distance, mantissa, shift):
    power = int(numbers.exponential(distance, _word(mantissa, shift)))
    assert 0 <= power <= 255


def test_exponential_is_the_nearest_byte_or_so():
    t = np.arange(5000)
    power = numbers.exponential(t, numbers.UNITY)
    assert power[0] == 255
    assert np.all(np.diff(power) <= 0)
    # A rounding, and the error of the table.
    assert np.abs(power - 255 * 2.0 ** (-t / 256)).max() < 0.51


def test_silu_of_every_gate():
    g = np.arange(-(2**15), 2**15)
    got = numbers.silu(g)
    real = g / 2**numbers.GATE_FRACTION
    error = np.abs(got - g / (1 + np.exp(-real)))
    assert error[np.abs(real) < 8].max() <= 1.25
    # Beyond 8 the sigmoid stays what it is at 8, which is 1 - 2**-11.5.
    assert error.max() <= 12
    assert np.abs(got).max() < 2**15


@given(INT16, INT16, st.integers(0, 11))
def test_a_gate_is_a_whole_product(g, u, fraction):
    exact = int(numbers.silu(g, fraction)) * u
    assert int(numbers.gate(g, u, fraction)) == exact
    assert abs(exact) < 2**31


# --- rotation and planes -----------------------------------------------------------------------
@given(INT16, INT16, st.integers(0, 511), st.integers(0, 7))
def test_rotate_is_within_a_rounding_of_the_real_one(a, b, position, pair):
    cosine, sine = numbers.rope_table(512, 16, 10000.0)[position, pair].tolist()
    angle = position * 10000.0 ** (-2 * pair / 16)
    c, s = math.cos(angle), math.sin(angle)
    # Half for the result, and half of a factor's last bit for each operand.
    slack = 0.5 + (abs(a) + abs(b)) * 2.0**-15 + 1e-6
    for got, want in zip(
        numbers.rotate(a, b, cosine, sine), (a * c - b * s, a * s + b * c), strict=True
    ):
        assert abs(int(got) - max(-numbers.LIMIT16, min(numbers.LIMIT16, want))) <= slack


def test_planes_of_every_value():
    values = np.arange(-numbers.LIMIT16, numbers.LIMIT16 + 1)
    high, low = numbers.planes(values)
    assert np.array_equal(256 * high + low, values)
    assert (high.min(), high.max()) == (-127, 127)
    assert (low.min(), low.max()) == (-128, 127)


@given(st.lists(INT16, min_size=1, max_size=40), st.integers(0, 12), st.randoms())
def test_sum_of_squares_does_not_depend_on_the_order(row, shift, random):
    total = int(numbers.sum_of_squares(row, shift))
    assert total == sum(value * value >> shift for value in row)
    random.shuffle(row)
    assert int(numbers.sum_of_squares(row, shift)) == total
