# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel against the golden model: KV vectors of every layer, and the first token."""

import json
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from diptych.systolic.with_hbm import PrefillWithHbm
from diptych_sim.compiler.kv_layout import pack_bytes
from diptych_sim.compiler.prefill import compile_prefill
from diptych_sim.engine.simulate import simulate
from diptych_sim.gemm import PANEL_NAME, PANEL_PUBLIC
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.llm.model import ModelConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "compiler"))
from random_model import random_model

TINY = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)


def expected_handoff(model, *prompts):
    """What the golden model hands off: kind, layer, prompt, position, words."""
    goldens = [GoldenMachine(model) for _ in prompts]
    first = [golden.next_token(prompt) for golden, prompt in zip(goldens, prompts, strict=True)]
    handoff = []
    for layer, (n, prompt) in product(range(model.config.layers), enumerate(prompts)):
        cache = goldens[n].cache[layer]
        for position in range(len(prompt)):
            planes = numbers.planes(cache.keys[position].reshape(-1))
            words = [word for plane in planes for word in pack_bytes(plane)]
            handoff.append((0, layer, n, position, words))
        for position in range(len(prompt)):
            words = pack_bytes(cache.values[position].reshape(-1))
            handoff.append((1, layer, n, position, words))
    for n, token in enumerate(first):
        handoff.append((2, 0, n, len(prompts[n]) - 1, [token]))
    return handoff


def prefill(model, rows, columns, prompts, folder, *, stall=0.0, on_event=None):
    program = compile_prefill(model, rows, columns, *prompts)
    job = folder / "prefill.json"
    fields = {
        "hbm": program.hbm.hex(),
        "program": program.program_address,
        "limit": 2_000_000,
        "stall": stall,
        "handoff": expected_handoff(model, *prompts),
    }
    job.write_text(json.dumps(fields))
    return simulate(
        partial(PrefillWithHbm, rows, columns),
        name=PANEL_NAME,
        public=PANEL_PUBLIC,
        test_module="diptych_tb.systolic.panel",
        env={"DIPTYCH_PREFILL": job},
        on_event=on_event,
    )


SLOW = [
    pytest.param(size, marks=pytest.mark.slow)
    for size in ((8, 8), (8, 16), (16, 8), (16, 16), (32, 32))
]


def tokens(*counts):
    rng = np.random.default_rng(1)
    return [rng.integers(0, TINY.vocab, count).tolist() for count in counts]


@pytest.mark.parametrize("array", [(4, 4), *SLOW])
@pytest.mark.parametrize("count", [1, 21, pytest.param(60, marks=pytest.mark.slow)])
def test_hands_off_what_the_golden_model_computes(array, count, tmp_path):
    prefill(random_model(TINY, 1), *array, tokens(count), tmp_path, stall=0.3)


@pytest.mark.parametrize("array", [(4, 4), *SLOW])
@pytest.mark.parametrize(
    "counts", [(5, 1, 13), pytest.param((3, 40, 1, 9, 17, 2, 2, 30), marks=pytest.mark.slow)]
)
def test_several_prompts_are_read_together(array, counts, tmp_path):
    prefill(random_model(TINY, 1), *array, tokens(*counts), tmp_path, stall=0.3)
