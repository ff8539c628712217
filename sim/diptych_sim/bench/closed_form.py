# SPDX-License-Identifier: BSD-2-Clause
"""Cycles of our machine in closed form, beside the cost models that read programs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from statistics import mean, median

from rich.console import Console

from diptych.config import MachineConfig
from diptych_sim.compiler.array.hbm_layout import PrefillError
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.decode import decode_cost
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.projection.own_machine import decode_cycles, prefill_cycles
from diptych_sim.cost.requests import panel_cost
from diptych_sim.golden.random_weights import random_model
from diptych_sim.golden.without_weights import without_weights
from diptych_sim.llm.model import ModelConfig
from diptych_sim.settings import seed as set_seed

__all__ = ["decode_errors", "measure", "prefill_errors"]

DRAWS = 30
TOKENS = 4
_SRAM = 65536


def _draw(rng: random.Random) -> ModelConfig:
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


def prefill_errors(seed: int) -> Iterator[float]:
    """Yield relative errors of prefill, of random models, arrays and prompts, for ever."""
    rng = random.Random(seed)
    while True:
        config = _draw(rng)
        side = rng.choice([8, 16, 32])
        weight_rows = rng.choice([1, 2]) if side < 16 else rng.choice([1, 2, 4])
        tokens = rng.choice([3, 10, 33, 64, 128])
        if not 32 <= config.dim <= 128:
            continue
        machine = MachineConfig(array=(side, side), weight_rows=weight_rows)
        try:
            program = compile_prefill(random_model(config, 1), side, side, [1] * tokens)
        except PrefillError:
            continue
        found = max(prefill_cycles(shape_of(config, "random"), machine, tokens))
        yield found / panel_cost(program, machine).predicted_cycles - 1


def decode_errors(seed: int) -> Iterator[float]:
    """Yield relative errors of decode, of random models, meshes and positions, for ever."""
    rng = random.Random(seed)
    while True:
        config = _draw(rng)
        mesh = (rng.choice([4, 6, 8, 12, 16, 24]), rng.choice([4, 8, 16, 32]))
        prompt = rng.choice([5, 40, 200])
        if not 32 <= config.dim <= 256:
            continue
        try:
            program = compile_decode(
                without_weights(config),
                *mesh,
                prompt_tokens=prompt,
                tokens=TOKENS,
                sram_bytes=_SRAM,
            )
        except (MeshTooSmallError, UnsupportedModelError):
            continue
        shape = shape_of(config, "random")
        found = decode_cycles(shape, MachineConfig(mesh=mesh), prompt + (TOKENS - 1) / 2)
        yield (found.products + found.waits) * (TOKENS - 1) / decode_cost(program) - 1


def measure(console: Console, _runs: int) -> None:
    """Print the errors of both phases."""
    seed = set_seed()
    for phase, errors in (("prefill", prefill_errors(seed)), ("decode", decode_errors(seed))):
        found = list(islice(errors, DRAWS))
        sizes = [abs(error) for error in found]
        console.print(
            f"{phase} in closed form beside its program, {DRAWS} random models and machines, seed "
            f"{seed} (DIPTYCH_SEED): median {median(sizes):.1%}, mean {mean(found):+.1%}, "
            f"largest {max(sizes):.1%}",
            soft_wrap=True,
            highlight=False,
        )
