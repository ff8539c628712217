# SPDX-License-Identifier: BSD-2-Clause
"""Random models are of use in tests: a wrong weight anywhere in a layer changes what comes behind it.

With the scales that these models had before, scores were equal, gates near 0 and additions small: 24 of
these 32 tests failed.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig

SHAPES = {
    "tiny": ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64),
    "wide heads": ModelConfig(
        dim=64, hidden=72, layers=2, heads=6, kv_heads=3, vocab=70, context=64, head_width=64
    ),
    "large": ModelConfig(
        dim=576, hidden=768, layers=2, heads=9, kv_heads=3, vocab=5000, context=64
    ),
    "normed": ModelConfig(
        dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64, qk_norm=True
    ),
}
MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
PROMPT = list(range(20))


def normed(model):
    """Return the final norm's output behind a prompt."""
    return GoldenModel(model).step(PROMPT)[1]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_wrong_row_of_a_matrix_changes_the_result(shape, matrix):
    model = random_integers(SHAPES[shape], 1)
    first, *others = model.layers
    weights = getattr(first, matrix).copy()
    weights[1] = np.roll(weights[1], 1)
    wrong = replace(model, layers=(replace(first, **{matrix: weights}), *others))
    changed = normed(wrong) != normed(model)
    assert changed.mean() > 0.3


@pytest.mark.parametrize("shape", SHAPES)
def test_few_logits_saturate(shape):
    model = random_integers(SHAPES[shape], 1)
    logits = GoldenModel(model).logits(PROMPT)
    assert (np.abs(logits) == 2 ** (model.logit_bits - 1) - 1).mean() < 1e-4
