# SPDX-License-Identifier: BSD-2-Clause
"""Prefill programs of prompts of any length: what they hand off, in a NumPy model of the panel.

What was never written is random there, while the RTL's memories begin with zeros.

Mutations that were tried by hand, each seen to fail: keys or queries of the other heads of a pair;
their planes exchanged; powers that end with the last score, not with the line; no causal skipping;
RoPE factors of the first block for all; scales gathered from the table.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.llm.model import ModelConfig
from support.golden_handoff import expected_handoff
from support.prefill_panel_model import PanelModel
from support.random_model import TINY, random_model

WIDE = ModelConfig(dim=64, hidden=24, layers=1, heads=4, kv_heads=4, vocab=40, context=64)
MODELS = {"tiny": random_model(TINY, 1), "wide": random_model(WIDE, 2)}
NARROW = ModelConfig(dim=20, hidden=24, layers=2, heads=5, kv_heads=5, vocab=50, context=64)
"""Rows end within a line."""
MODELS["narrow"] = random_model(NARROW, 3)
ARRAYS = [(4, 4), (8, 8), (16, 16), (8, 16), (16, 8), (32, 32)]


def check(name, array, *counts, seed=1):
    model = MODELS[name]
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, model.config.vocab, count).tolist() for count in counts]
    got = PanelModel(compile_prefill(model, *array, *prompts), *array).handoff
    assert got == expected_handoff(model, *prompts)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("name", MODELS)
def test_lengths_around_the_edges_of_tiles(name, array):
    side = max(array)
    for count in {1, 2, side - 1, side, side + 1, 2 * side, min(2 * side + 1, 64), 63, 64}:
        check(name, array, count)


def test_queries_of_a_block_may_come_in_parts_that_would_not_end_with_a_head():
    config = ModelConfig(
        dim=64, hidden=72, layers=2, heads=6, kv_heads=3, vocab=70, context=200, head_width=64
    )
    model = random_model(config, 1)
    prompt = np.random.default_rng(1).integers(0, config.vocab, 200).tolist()
    got = PanelModel(compile_prefill(model, 16, 16, prompt), 16, 16).handoff
    assert got == expected_handoff(model, prompt)


@pytest.mark.parametrize(("name", "side"), [("tiny", 64), ("wide", 64), ("narrow", 128)])
def test_arrays_that_are_wider_than_the_model(name, side):
    check(name, (side, side), 20)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(ARRAYS),
    st.integers(1, 64),
    st.integers(0, 1000),
)
def test_any_length(name, array, count, seed):
    check(name, array, count, seed=seed)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(ARRAYS),
    st.lists(st.integers(1, 20), min_size=2, max_size=8),
    st.integers(0, 1000),
)
def test_several_prompts_of_any_length(name, array, counts, seed):
    check(name, array, *counts, seed=seed)
