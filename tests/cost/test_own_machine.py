# SPDX-License-Identifier: BSD-2-Clause
"""Both phases of our machine in closed form, beside the cost model that reads programs.

Products without the ceiling of a tile, a reduction less a layer, a last layer that does all tokens,
and attention behind the diagonal were planted and seen to fail.
"""

import random
from dataclasses import replace
from math import ceil

import numpy as np

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.decode import decode_cost
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.prefill import prefill_cost
from diptych_sim.cost.projection.own_machine import decode_cycles, prefill_cycles
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


def test_prefill_is_near_the_program():
    rng = random.Random(seed())
    errors = []
    while len(errors) < DRAWS:
        config = draw(rng)
        side = rng.choice([8, 16, 32])
        weight_rows = rng.choice([1, 2]) if side < 16 else rng.choice([1, 2, 4])
        tokens = rng.choice([3, 10, 33, 64, 128])
        if not 32 <= config.dim <= 128:
            continue
        try:
            program = compile_prefill(random_model(config, 1), side, side, [1] * tokens)
        except ValueError:
            continue
        cost = prefill_cost(
            program,
            rows=side,
            columns=side,
            weight_rows=weight_rows,
            latency=DEFAULTS.hbm_latency,
            bytes_per_cycle=DEFAULTS.hbm_bytes_per_cycle,
        )
        machine = MachineConfig(array=(side, side), weight_rows=weight_rows)
        found = max(prefill_cycles(shape_of(config, "random"), machine, tokens))
        errors.append(found / cost.predicted_cycles - 1)
    assert np.median(np.abs(errors)) < 0.09, f"seed {seed()}"
    assert abs(np.mean(errors)) < 0.06, f"seed {seed()}"


def test_causal_folds_are_those_of_each_position():
    """Attention alone: the same products, and a fold of weights for each column of positions."""
    shape = replace(shape_of(draw(random.Random(1)), "random"), heads=1, kv_heads=1, head_dim=8)
    machine = MachineConfig(array=(8, 8), weight_rows=1)
    grown = [max(prefill_cycles(replace(shape, layers=2), machine, n)) for n in (64, 72)]
    less = [max(prefill_cycles(replace(shape, layers=1), machine, n)) for n in (64, 72)]
    # One layer more: 3 planes of scores and one of values, 8 more folds of 72 to 8 rows.
    planes = 4
    folds = [planes * sum(range(8, n + 1, 8)) for n in (64, 72)]
    products = [
        (ceil(shape.dim / 8) * (4 + 0) + 3 * ceil(shape.dim / 8) * ceil(shape.hidden / 8)) * n
        for n in (64, 72)
    ]
    rest = [440 + 15 * n + 2 * 16 for n in (64, 72)]
    assert [a - b for a, b in zip(grown, less, strict=True)] == [
        sum(parts) for parts in zip(folds, products, rest, strict=True)
    ]


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
        shape = shape_of(config, "random")
        found = decode_cycles(shape, MachineConfig(mesh=mesh), prompt + (TOKENS - 1) / 2)
        expected = decode_cost(program) / (TOKENS - 1)
        errors.append((found.products + found.waits) / expected - 1)
    assert np.median(np.abs(errors)) < 0.035, f"seed {seed()}"
    assert abs(np.mean(errors)) < 0.02, f"seed {seed()}"  # nothing is left out of all
    assert np.abs(errors).max() < 0.16, f"seed {seed()}"
