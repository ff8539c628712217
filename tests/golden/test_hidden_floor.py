# SPDX-License-Identifier: BSD-2-Clause
"""Floors of the magnitudes of hidden elements.

Mutations that were tried by hand, each seen to fail: a floor in other units; one that is also the ceiling; one
of 8-bit activations; one without its limit; wide where the floor is reached.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych_sim.golden import numbers
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.hidden_floor import COVERED, LOSS, hidden_floor
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.load import load_model
from diptych_sim.llm.model import ModelConfig
from support.tiny_models import write_tiny

CONFIG = ModelConfig(dim=24, hidden=40, layers=1, heads=3, kv_heads=1, vocab=40, context=32)


def test_most_rows_are_below_it():
    rows = np.random.default_rng(1).lognormal(0, 0.4, 1000)
    floor = hidden_floor(rows, 12)
    assert np.mean(rows <= floor) == pytest.approx(COVERED, abs=0.01)
    assert hidden_floor(rows, 8) == 0


def test_it_costs_the_median_no_more_than_two_bits():
    rows = np.append(np.ones(90), np.full(10, 100.0))
    assert hidden_floor(rows, 12) == LOSS == 4


def test_rows_below_it_have_its_scale_and_others_their_own(monkeypatch):
    seen = []

    def requantized(x, word, bits, dynamic=numbers.UNITY):
        if np.shape(x)[-1:] == (CONFIG.hidden,):
            seen.append(np.asarray(dynamic))
        return original(x, word, bits, dynamic)

    original = numbers.requantize
    monkeypatch.setattr(numbers, "requantize", requantized)
    model = random_integers(CONFIG, 1)
    tokens = list(range(24))

    def scales(floor):
        """Scales of rows, and which are wide, with a floor."""
        seen.clear()
        layer = replace(model.layers[0], hidden_floor=floor)
        golden = GoldenModel(replace(model, layers=(layer,)))
        golden.hidden_states(tokens)
        return seen[-1].reshape(-1), golden.wide[: len(tokens), 0]

    own, wide = scales(0)
    assert wide.all()
    assert len(set(own.tolist())) > 20
    found, wide = scales(2**31 - 1)
    assert not wide.any()
    assert set(found.tolist()) == {int(numbers.reciprocal(2**31 - 1))}
    mixed = 0
    for floor in np.geomspace(1e5, 1e8, 20).astype(int).tolist():
        found, wide = scales(floor)
        assert (found[wide] == own[wide]).all()
        assert set(found[~wide].tolist()) <= {int(numbers.reciprocal(floor))}
        mixed += wide.any() and not wide.all()
    assert mixed >= 2


def test_a_row_that_reaches_it_is_not_wide(monkeypatch):
    found = []
    gate = numbers.gate
    monkeypatch.setattr(numbers, "gate", lambda *of: found.append(gate(*of)) or found[-1])
    model = random_integers(CONFIG, 1)
    GoldenModel(model).hidden_states([3])
    largest = int(np.abs(found[-1]).max())
    for floor in (largest - 1, largest):
        layer = replace(model.layers[0], hidden_floor=floor)
        golden = GoldenModel(replace(model, layers=(layer,)))
        golden.hidden_states([3])
        assert golden.wide[0, 0] == (floor < largest)


@pytest.mark.parametrize("bits", [8, 12])
def test_the_quantizer_sets_it_in_units_of_gated_elements(tmp_path, bits):
    loaded = load_model(str(write_tiny(tmp_path, "llama untied")))
    model = quantize_loaded(loaded, activation_bits=bits)
    floors = [layer.hidden_floor for layer in model.layers]
    if bits == 8:
        assert not any(floors)
        return
    golden = GoldenModel(model)
    tokens = np.random.default_rng(2).integers(0, model.config.vocab, 60)
    golden.hidden_states(tokens % model.config.vocab)
    # Of other rows about as many are wide as of the calibration's.
    assert 0.0 < golden.wide[:60].mean() < 0.4
