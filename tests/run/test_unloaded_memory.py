# SPDX-License-Identifier: BSD-2-Clause
"""A mesh whose memories hold anything where nothing is loaded: every token equals the golden model's.

Mutations that were tried by hand, each seen to fail: powers without the zeros behind them, an epsilon that is not
loaded.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.images import loaded_spans, tile_images
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from support.tile_sizes import LARGE_TILE

CONFIG = ModelConfig(
    dim=24, hidden=40, layers=2, heads=3, kv_heads=1, vocab=40, context=64, head_width=8
)


@pytest.mark.parametrize("prompts", [(3,), (3, 5)])
def test_what_is_not_loaded_may_be_anything(prompts, monkeypatch):
    rng = np.random.default_rng(1)
    anything = []

    def filled(model, place, **fields):
        images = tile_images(model, place, **fields)
        for column in range(place.columns):
            unloaded = np.ones(images.shape[-1], bool)
            for begin, end in loaded_spans(model, place.of_column(column)):
                unloaded[begin // 4 : end // 4] = False
            assert not images[:, column, unloaded].any()
            shape = (place.rows, unloaded.sum())
            images[:, column, unloaded] = rng.integers(2**32, size=shape, dtype=np.uint32)
            anything.append(shape[1])
        return images

    monkeypatch.setattr("diptych_sim.compiler.decode.compile.tile_images", filled)
    model = random_integers(CONFIG, 3)
    done = generate(
        model,
        [rng.integers(0, model.config.vocab, n).tolist() for n in prompts],
        [12] * len(prompts),
        machine=MachineConfig(mesh=(3, 2), **LARGE_TILE),
        stage="decode",
        engine="lanes",
        preloaded=True,
    )
    assert min(anything) > 100
    assert done.matches_golden, done.difference
