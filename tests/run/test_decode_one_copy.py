# SPDX-License-Identifier: BSD-2-Clause
"""An embedding that is made of the codes of the output, in RTL: tokens equal the golden model's.

Mutations that were seen to fail: elements of a row that are sent on one too late; codes without their
scale; the rest of one sequence for all.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from support.random_model import TINY
from support.tile_sizes import SMALL_TILE

CONFIG = ModelConfig(
    dim=48, hidden=160, layers=2, heads=3, kv_heads=1, vocab=150, context=64, head_width=16
)


@pytest.mark.parametrize(
    ("mesh", "sram", "uneven"),
    [
        ((3, 7), SMALL_TILE["sram_bytes"], True),
        pytest.param((5, 11), 16384, False, marks=pytest.mark.slow),
        # More columns than elements.
        pytest.param((1, 64), 24576, False, marks=pytest.mark.slow),
    ],
)
def test_tokens_equal_the_golden_model(mesh, sram, uneven):
    prompt = np.random.default_rng(2).integers(0, CONFIG.vocab, 20).tolist()
    done = generate(
        random_integers(CONFIG, 1, one_copy=True),
        [prompt],
        [5],
        machine=MachineConfig(mesh=mesh, **SMALL_TILE | {"sram_bytes": sram}),
        stage="decode",
        engine="lanes",
    )
    place = done.decode.placement
    assert place.one_copy
    assert "embedding" not in place.fixed
    assert len({kind.vocabulary for kind in place.kinds}) == 1 + uneven
    assert done.matches_golden, done.difference


@pytest.mark.parametrize(
    ("lengths", "temperature", "engine"),
    [
        pytest.param([5], 0.0, "verilator", marks=pytest.mark.slow),
        ([4, 3], 0.0, "lanes"),
        ([5], 1.0, "lanes"),
    ],
)
def test_both_panels_make_the_same_embedding(lengths, temperature, engine):
    model = random_integers(TINY, 1, one_copy=True)
    seeds = list(range(len(lengths))) if temperature else []
    rng = np.random.default_rng(3)
    done = generate(
        model.sampled(temperature) if temperature else model,
        [rng.integers(0, TINY.vocab, n).tolist() for n in lengths],
        [4] * len(lengths),
        machine=MachineConfig(mesh=(2, 2), array=(8, 8)),
        engine=engine,
        seeds=seeds,
    )
    assert done.matches_golden, done.difference
