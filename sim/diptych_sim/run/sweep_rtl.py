# SPDX-License-Identifier: BSD-2-Clause
"""Points of a sweep, run in RTL beside what the cost model says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diptych_sim.cost.models.shape import ModelShape, config_of
from diptych_sim.engine.build import Progress
from diptych_sim.golden.random_weights import random_model

from .generate import generate
from .sweep import SweepError, point_sizes

__all__ = ["MOST_PARAMETERS", "measure_row"]

MOST_PARAMETERS = 4_000_000
"""Weights of a model that runs in minutes."""
_MEASURED = ("ttft_cycles", "tpot_cycles", "request_cycles")


def measure_row(
    shape: ModelShape, row: Mapping[str, Any], progress: Progress | None = None
) -> dict[str, Any]:
    """Run a point with random weights, which cost what others do.

    Returns the point's keys, ``matches_golden``, and for each of three metrics ``predicted``,
    ``measured`` and ``error``.

    Raises
    ------
    SweepError
        If RTL cannot run the model.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    if shape.experts > 1 or shape.windowed_layers or shape.parameters > MOST_PARAMETERS:
        raise SweepError(
            f"RTL (--rtl) must have a dense model of at most {MOST_PARAMETERS:,} weights, not "
            f"{shape.name} with {shape.parameters:,}"
        )
    prompt, tokens, batch = (row[name] for name in ("prompt_tokens", "tokens", "batch"))
    config = config_of(shape, max(2, prompt + tokens))
    machine = point_sizes(row).machine
    rng = np.random.default_rng(1)
    prompts = rng.integers(0, shape.vocab, (batch, prompt)).tolist()
    model = random_model(config, 1)
    done = generate(model, prompts, [tokens] * batch, machine=machine, progress=progress)
    came = [event["cycle"] for event in done.events if event["kind"] == "token"][batch - 1 :: batch]
    start = next(event["cycle"] for event in done.events if event["kind"] == "started")
    found = {
        "ttft_cycles": came[0] - start,
        "tpot_cycles": (came[-1] - came[0]) / (len(came) - 1) if len(came) > 1 else None,
        "request_cycles": came[-1] - start,
    }
    names = ("array", "mesh", "sram_bytes", "hbm", "link", "batch", "prompt_tokens", "tokens")
    return {
        **{name: row[name] for name in names},
        "matches_golden": done.matches_golden,
        **{
            name: {
                "predicted": row[name],
                "measured": found[name],
                "error": None if found[name] is None else row[name] / found[name] - 1,
            }
            for name in _MEASURED
        },
    }
