# SPDX-License-Identifier: BSD-2-Clause
"""Tokens that are drawn: the machine equals the golden model, which draws from the softmax.

Mutations that were seen to fail: a key that does not go on with the position, or is that of sequence 0;
indices that begin at 0 in each column; logits that the norm does not scale; on the prefill panel, noise
of another position, and an ARGMAX that does not wait for it.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model
from support.tile_sizes import LARGE_TILE

GREEDY = random_model(TINY, 1)
# Real logits of about -4 to 4.
REAL = replace(GREEDY, logit_step=1 / 500, largest_logit=4.0)
MODEL = REAL.sampled(0.8)
MACHINE = MachineConfig(array=(8, 8), mesh=(2, 2))
PROMPTS = [[7, 1, 30, 2, 44], [9], [3, 3, 8]]


def golden(prompt, count, seed):
    return list(GoldenModel(MODEL, seed).generate(prompt, count))


@pytest.mark.parametrize("mesh", [(2, 2), (3, 5)])
@pytest.mark.parametrize("engine", ["lanes", "verilator"])
def test_drawn_tokens_equal_the_golden_model(mesh, engine):
    done = generate(
        MODEL,
        PROMPTS[:1],
        [8],
        machine=MachineConfig(mesh=mesh),
        stage="decode",
        seeds=[5],
        engine=engine,
    )
    assert done.matches_golden
    assert done.tokens == golden(PROMPTS[0], 8, 5)


@pytest.mark.parametrize("engine", ["lanes", pytest.param("verilator", marks=pytest.mark.slow)])
def test_each_of_several_sequences_has_its_seed(engine):
    """Those of equal prompts differ; one ends by a stop, one at its length."""
    prompts, counts, seeds = [*PROMPTS, PROMPTS[0]], [9, 5, 12, 12], [1, 2, 3, 4]
    whole = [golden(*each) for each in zip(prompts, counts, seeds, strict=True)]
    stops = [whole[0][3]]
    done = generate(
        MODEL,
        prompts,
        counts,
        machine=MachineConfig(mesh=(2, 3), **LARGE_TILE),
        stage="decode",
        stops=stops,
        seeds=seeds,
        engine=engine,
    )
    assert done.matches_golden
    for each, tokens in zip(done.sequences, whole, strict=True):
        assert each.tokens == tokens[: len(each.tokens)]
    assert done.sequences[0].tokens[:4] != done.sequences[3].tokens[:4]


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_prefill_draws_first_tokens(qkv_bias):
    """Of two prompts of one batch, with biases of layers in the place of the noise, and without."""
    model = MODEL if not qkv_bias else _with_biases(MODEL)
    seeds = [11, 12]
    done = generate(
        model, [PROMPTS[0], PROMPTS[0]], [3, 1], machine=MACHINE, seeds=seeds, engine="lanes"
    )
    assert done.matches_golden
    firsts = [GoldenModel(model, seed).next_token(PROMPTS[0]) for seed in seeds]
    assert [each.tokens[0] for each in done.sequences] == firsts
    assert firsts[0] != firsts[1]


def test_prefill_draws_from_more_tokens_than_have_noise_at_once():
    """Noise comes in three parts; a token of the second and one of the third are drawn, in one batch."""
    large = random_model(replace(TINY, vocab=9001), 1)
    model = replace(large, logit_step=1 / 500, largest_logit=4.0).sampled(3.0)
    seeds = [2, 7]
    firsts = [GoldenModel(model, *each).next_token(PROMPTS[0]) for each in zip(seeds)]
    assert [first // 4096 for first in firsts] == [1, 2]
    done = generate(
        model,
        [PROMPTS[0]] * 2,
        [1] * 2,
        machine=MACHINE,
        stage="prefill",
        seeds=seeds,
        engine="lanes",
    )
    assert done.matches_golden
    assert done.tokens == firsts


def _with_biases(model):
    rng = np.random.default_rng(3)

    def biased(layer):
        sizes = {"bq": len(layer.wq), "bk": len(layer.wk), "bv": len(layer.wv)}
        ranges = {"bq": 3000, "bk": 3000, "bv": 40}
        return replace(
            layer,
            **{n: rng.integers(-ranges[n], ranges[n], size) for n, size in sizes.items()},
        )

    config = replace(model.config, qkv_bias=True)
    return replace(model, config=config, layers=tuple(map(biased, model.layers)))
