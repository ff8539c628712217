# SPDX-License-Identifier: BSD-2-Clause
"""Columns of two kinds in RTL: every token equals the golden model's.

Mutations that were seen to fail: columns without heads that begin a token too early, or with the
task of the others; a down projection without its last word.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.cost.decode import decode_cost
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from diptych_sim.run.mesh_request import mesh_request
from support.tile_sizes import SMALL_TILE

CONFIG = ModelConfig(
    dim=48,
    hidden=100,
    layers=3,
    heads=3,
    kv_heads=1,
    vocab=150,
    context=64,
    head_width=16,
    tied=False,
)


SRAM = SMALL_TILE["sram_bytes"]


def decoded(model, mesh=(3, 7), sram=SRAM, *, tokens=6, **how):
    prompt = np.random.default_rng(2).integers(0, model.config.vocab, 20).tolist()
    done = generate(
        model,
        [prompt],
        [tokens],
        machine=MachineConfig(mesh=mesh, **SMALL_TILE | {"sram_bytes": sram}),
        stage="decode",
        engine="lanes",
        **how,
    )
    assert done.decode.placement.headless is not None
    assert done.matches_golden, done.difference
    return done


@pytest.mark.parametrize(
    ("mesh", "sram"),
    [
        ((3, 7), SRAM),
        pytest.param((5, 11), 6656, marks=pytest.mark.slow),
        pytest.param((2, 5), 10752, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("preloaded", [False, True])
def test_tokens_equal_the_golden_model(mesh, sram, preloaded):
    done = decoded(random_integers(CONFIG, 1), mesh, sram, preloaded=preloaded)
    tokens = [event["cycle"] for event in done.events if event["kind"] == "token"]
    cycles = tokens[-1] - tokens[0]
    assert decode_cost(done.decode) == pytest.approx(cycles, rel=0.03)


def test_tokens_are_drawn_and_end_the_text():
    model = random_integers(CONFIG, 1).sampled(1.0)
    done = decoded(model, seeds=[5], preloaded=True)
    written = done.sequences[0].tokens
    ended = decoded(model, seeds=[5], preloaded=True, stops=[written[3]])
    assert ended.sequences[0].tokens == written[: written.index(written[3]) + 1]


def test_the_mesh_reads_the_prompt():
    prompt = np.random.default_rng(3).integers(0, CONFIG.vocab, 20).tolist()
    machine = MachineConfig(mesh=(3, 7), **SMALL_TILE)
    done = mesh_request(random_integers(CONFIG, 1), [prompt], 5, machine=machine, engine="lanes")
    assert done.program.placement.headless is not None
    assert done.matches_golden, done.difference
