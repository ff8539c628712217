# SPDX-License-Identifier: BSD-2-Clause
"""Activations of 12 bits and wide rows: bounds of the integers, and how near they come to floats.

Mutations that were tried by hand, each seen to fail: rows squared ahead of their scaling; the
epsilon of a norm left out; powers of 8 bits with activations of 12; a bias added ahead of its
scale; a gain's sign lost; values balanced without the matrix behind them; a rotation of what reads
the stream, but not of what writes it.
"""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych_sim.golden import numbers
from diptych_sim.golden.evaluate import compare
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel, product, rms_norm, top_word
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.rewrite import balance_values, rotate_residual
from diptych_sim.llm.load import load_model
from support.tiny_models import KINDS, write_tiny

UINT32 = st.integers(0, 2**32 - 1)
NARROW: dict[str, Any] = {"activation_bits": 8, "residual_bits": 24}


@given(UINT32)
@example(2**32 - 1)
@example(0xFFFF8000)
@example(0)
def test_the_scale_of_a_word_is_its_upper_16_bits(value):
    word = int(numbers.to_scale(value))
    exact = Fraction(value, 2**16)
    got = Fraction(word & 0xFFFF, 2 ** (word >> 16))
    assert 0 <= word < 2**22
    assert abs(got - exact) <= exact / 2**15


@given(st.integers(0, 2**31 - 1), st.integers(2**15, 2**16 - 1), st.integers(0, 62))
def test_powers_of_12_bits_are_those_of_8_bits_and_finer(distance, mantissa, shift):
    word = mantissa | shift << 16
    fine = int(numbers.exponential(distance, word, 2047))
    assert 0 <= fine <= 2047
    assert (
        abs(fine / 2047 - int(numbers.exponential(distance, word)) / 255) <= 0.5 / 255 + 0.6 / 2047
    )


@pytest.mark.parametrize("fraction", range(7, 12))
def test_silu_of_gates_with_fewer_bits_of_fraction(fraction):
    g = np.arange(-(2**15), 2**15)
    real = g / 2.0**fraction
    # A rounding, the table's error, and beyond 8 the sigmoid of 8.
    bound = 1.25 + np.abs(g) * 2.0**-11.4
    exact = g * (0.5 + np.tanh(real / 2) / 2)
    assert np.all(np.abs(numbers.silu(g, fraction) - exact) <= bound)


@given(
    st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=1, max_size=64),
    st.integers(0, 31),
    st.integers(0, 2**31 - 1),
)
@example([0] * 8, 0, 5)
@example([2**31 - 1] * 64, 0, 0)
@example([1] * 64, 0, 2**31 - 1)
def test_a_norm_is_exact_to_its_bits(row, right, epsilon):
    x = np.array([row]) >> right
    shift = max(0, (len(row) * 2047**2 + 32767**2).bit_length() - 32)
    largest = int(np.abs(x).max())
    found = rms_norm(
        x, np.array([largest]), top_word(12), bits=12, square_shift=shift, epsilon=epsilon
    )
    assert np.abs(found.values).max() <= 2047
    # Neither before they are clamped: they lie in memory as 16 bits.
    assert int((found.values**2).sum()) + 32767**2 < 2**32
    if not largest:
        assert not found.values.any()
        return
    ratio = x[0] * (2047 / largest)
    assert np.abs(found.values[0] - ratio).max() <= 0.5 + 2047 * 2.0**-13
    small = min(2047 * epsilon / largest, 32767.0)
    exact = math.sqrt((ratio**2).sum() + small**2)
    error = 2.0**-13 * exact + math.sqrt(len(row)) + 1
    real = float(numbers.real_of(found.dynamic)[0])
    assert (
        1 / (exact + error) * (1 - 2.0**-14) <= real <= 1 / max(exact - error, 1) * (1 + 2.0**-14)
    )


def test_products_are_exact_where_float32_is_not():
    rng = np.random.default_rng(0)
    values = rng.integers(-2047, 2048, (3, 8000))
    matrix = rng.integers(-127, 128, (5, 8000)).astype(np.int8)
    assert np.array_equal(
        product(values, matrix.astype(np.float64)), values @ matrix.astype(np.int64).T
    )


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return load_model(str(write_tiny(folder, request.param)))


def windows(loaded, count=6):
    rng = np.random.default_rng(5)
    return [rng.integers(2, loaded.model.config.vocab, 48).tolist() for _ in range(count)]


def judged(loaded, **precision):
    reference = FloatReference(loaded.model)
    steps = FloatReference(loaded.model).activations(windows(loaded))
    quantized = quantize(loaded.model, steps, **precision)
    golden = GoldenModel(QuantizedModel.from_bytes(quantized.to_bytes()))

    def predict(tokens):
        golden.reset()
        return golden.real_logits(tokens)

    return compare(reference.logits, predict, windows(loaded, 2), loaded.tokenizer)


def test_every_kind_is_near_its_floats(loaded):
    narrow = judged(loaded, **NARROW)
    wide = judged(loaded)
    # Weights of 8 bits are most of it, in models as small and random as these.
    assert narrow.divergence <= 0.04
    assert wide.divergence <= min(0.013, 0.95 * narrow.divergence)
    assert wide.agreement >= 0.85


def test_biases_and_head_norms_are_in_the_integers(tmp_path):
    for kind, names in (("qwen2", ("bq", "bk", "bv")), ("qwen3", ("q_norm", "k_norm"))):
        loaded = load_model(str(write_tiny(tmp_path / kind, kind)))
        steps = FloatReference(loaded.model).activations(windows(loaded))
        quantized = quantize(loaded.model, steps)
        before = GoldenModel(quantized).logits(range(2, 20))
        for name in names:
            first = quantized.layers[0]
            array = getattr(first, name)
            layer = replace(first, **{name: np.roll(array, 1)})
            other = replace(quantized, layers=(layer, *quantized.layers[1:]))
            assert not np.array_equal(GoldenModel(other).logits(range(2, 20)), before), name


@pytest.mark.parametrize(("precision", "top"), [(NARROW, 255), ({}, 2047)])
def test_powers_have_the_bits_of_activations(monkeypatch, tmp_path, precision, top):
    loaded = load_model(str(write_tiny(tmp_path, "llama")))
    steps = FloatReference(loaded.model).activations(windows(loaded))
    golden = GoldenModel(quantize(loaded.model, steps, **precision))
    seen = set()
    exponential = numbers.exponential

    def spied(distance, word, top=255):
        powers = exponential(distance, word, top)
        seen.add(int(powers.max()))
        return powers

    monkeypatch.setattr(numbers, "exponential", spied)
    golden.logits([5, 6, 7])
    assert seen == {top}


def test_gains_of_head_norms_may_be_negative(tmp_path):
    loaded = load_model(str(write_tiny(tmp_path, "qwen3")))
    model = loaded.model
    signs = np.where(np.random.default_rng(2).random(model.config.head_dim) < 0.5, -1, 1)
    layers = tuple(replace(w, q_norm=(w.q_norm * signs).astype(np.float32)) for w in model.layers)
    found = judged(replace(loaded, model=replace(model, layers=layers)))
    assert found.divergence <= 0.013


def test_one_step_at_a_time_computes_the_same(loaded):
    steps = FloatReference(loaded.model).activations(windows(loaded))
    quantized = quantize(loaded.model, steps)
    tokens = windows(loaded, 1)[0]
    whole = GoldenModel(quantized).logits(tokens)
    golden = GoldenModel(quantized)
    for at, token in enumerate(tokens):
        assert np.array_equal(golden.logits([token])[0], whole[at])


def test_rewritten_models_compute_what_they_did(loaded):
    model = loaded.model
    tokens = windows(loaded, 1)[0]
    expected = FloatReference(model).logits(tokens)
    c = model.config
    rng = np.random.default_rng(3)
    values = tuple(balance_values(c, w, rng.uniform(0.1, 9, c.kv_dim))[0] for w in model.layers)
    for name, other in (
        ("rotated", rotate_residual(model)),
        ("values", replace(model, layers=values)),
    ):
        found = FloatReference(other).logits(tokens)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), name
        assert not np.array_equal(other.layers[0].wo, model.layers[0].wo)
