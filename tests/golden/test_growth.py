# SPDX-License-Identifier: BSD-2-Clause
"""Norms that are scaled by the largest magnitude of the norm before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych_sim.golden import numbers
from diptych_sim.golden.growth import HEADROOM, STEADY, norm_top
from diptych_sim.golden.machine import GoldenModel, rms_norm
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig

SHAPE = ModelConfig(
    dim=32, hidden=64, layers=4, heads=4, kv_heads=2, vocab=40, context=8, norm_eps=1e-5
)
BEFORE = np.array([1.0, 2.0, 0.5, 4.0])


def test_a_scale_has_room_for_the_row_that_grows_most():
    word = norm_top(BEFORE, BEFORE * [1.0, 1.5, 2.0, 1.5], 12)
    assert numbers.real_of(word) == pytest.approx(2047 / (2.0 * HEADROOM), rel=2.0**-16)


@pytest.mark.parametrize(
    ("after", "bits"),
    [
        (BEFORE * [1.0, 1.0, STEADY + 0.01, 1.0], 12),
        (BEFORE, 8),
        (BEFORE * np.nan, 12),
        (BEFORE * np.inf, 12),
        (BEFORE * 0, 12),
        (BEFORE * 2.0**-5, 12),
    ],
)
def test_a_norm_is_by_its_own_row_where_growth_is_not_steady(after, bits):
    assert norm_top(BEFORE, after, bits) == 0


def test_a_row_of_nothing_may_grow_to_anything():
    assert norm_top(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 12) == 0


@given(
    st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=64),
    st.integers(1, 2**23),
    st.floats(0.5, 8),
)
def test_what_has_grown_too_much_saturates(row, before, growth):
    top = int(numbers.scale_word(2047 / growth))
    found = rms_norm(
        np.array([row]), np.array([before]), top, bits=12, square_shift=6, epsilon=0
    ).values[0]
    exact = np.clip(np.array(row) * (2047 / growth / before), -2047, 2047)
    assert np.abs(found - exact).max() <= 0.5 + 2047 * 2.0**-12


def test_each_norm_takes_the_magnitude_of_the_one_before(monkeypatch):
    """Each is given the largest magnitude that the norm before it saw, or its own."""
    model = random_integers(SHAPE, seed=3)
    seen = []

    def watched(x, largest, top, **fields):
        seen.append((np.abs(x).max(-1), largest))
        return rms_norm(x, largest, top, **fields)

    monkeypatch.setattr("diptych_sim.golden.machine.rms_norm", watched)
    golden = GoldenModel(model)
    golden.hidden_states([1, 2, 3])
    tops = [0, *model.norm_tops]
    assert len(seen) == len(tops)
    assert 0 in tops[1:]
    assert any(tops)
    before, grown = np.zeros(0), 0
    for (own, largest), top in zip(seen, tops, strict=True):
        assert np.array_equal(largest, before if top else own)
        if top:
            grown += int((own * numbers.real_of(top) > 2047.5 * largest).sum())
        before = own
    assert (golden.norms, golden.saturated) == (3 * len(tops), grown)
    assert grown
