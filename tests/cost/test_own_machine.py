# SPDX-License-Identifier: BSD-2-Clause
"""Decode of our machine in closed form, beside the cost model that reads the tiles' program.

Products without the ceiling of a tile, and a reduction less a layer, were planted and seen to fail.
"""

import random

import numpy as np

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.cost.decode import decode_cost
from diptych_sim.cost.models.shape import ModelShape
from diptych_sim.cost.projection.own_machine import decode_cycles
from diptych_sim.llm.model import ModelConfig
from diptych_sim.settings import seed
from support.random_model import random_model

DRAWS = 30
TOKENS = 4


def draw(rng):
    kv_heads, group = rng.choice([1, 2, 4]), rng.choice([1, 2, 4])
    heads = kv_heads * group
    dim = heads * rng.choice([8, 16, 32])
    return ModelConfig(
        dim=dim,
        hidden=rng.choice([2, 3, 4]) * dim,
        layers=rng.choice([1, 2, 4, 6]),
        heads=heads,
        kv_heads=kv_heads,
        vocab=rng.randint(50, 2000),
        context=256,
    )


def test_closed_form_is_near_the_program():
    rng = random.Random(seed())
    errors = []
    while len(errors) < DRAWS:
        config = draw(rng)
        mesh = (rng.choice([4, 6, 8, 12, 16, 24]), rng.choice([4, 8, 16, 32]))
        prompt = rng.choice([5, 40, 200])
        if not 32 <= config.dim <= 256:
            continue
        try:
            program = compile_decode(
                random_model(config, 1),
                *mesh,
                prompt_tokens=prompt,
                tokens=TOKENS,
                sram_bytes=65536,
            )
        except (MeshTooSmallError, UnsupportedModelError):
            continue
        shape = ModelShape(
            name="random",
            layers=config.layers,
            dim=config.dim,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            hidden=config.hidden,
            vocab=config.vocab,
            tied=True,
        )
        found = decode_cycles(shape, MachineConfig(mesh=mesh), prompt + (TOKENS - 1) / 2)
        expected = decode_cost(program) / (TOKENS - 1)
        errors.append((found.products + found.waits) / expected - 1)
    assert np.median(np.abs(errors)) < 0.035, f"seed {seed()}"
    assert abs(np.mean(errors)) < 0.02, f"seed {seed()}"  # nothing is left out of all
    assert np.abs(errors).max() < 0.16, f"seed {seed()}"
