# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel against the golden model: KV vectors of every layer, and the first token."""

import json
from functools import partial

import numpy as np
import pytest

from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.compiler.prefill.chunks import ChunkPlan
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.engine.simulate import simulate
from diptych_sim.host.public_signals import PANEL_NAME, PANEL_PUBLIC
from diptych_sim.llm.model import ModelConfig
from support.golden_handoff import expected_handoff, expected_in_chunks
from support.planned_chunks import planned
from support.random_model import TINY, random_model


def prefill(model, array, prompts, folder, *, plan=None, stall=0.0, on_event=None):
    rows, columns = array
    program = compile_prefill(model, rows, columns, *prompts)
    handoff = expected_handoff(model, *prompts)
    if plan is not None:
        program = planned(model, array, plan, prompts).run()
        handoff = expected_in_chunks(model, *prompts, size=plan.rows)
    job = folder / "prefill.json"
    fields = {
        "hbm": program.hbm.hex(),
        "program": program.start,
        "limit": 100_000,
        "stall": stall,
        "handoff": handoff,
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


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def tokens(*counts):
    rng = np.random.default_rng(1)
    return [rng.integers(0, TINY.vocab, count).tolist() for count in counts]


# Each array needs a build; the length of the prompt and the shape of the array seldom meet.
@pytest.mark.parametrize(
    ("array", "count"),
    [
        ((4, 4), 1),
        ((4, 4), 21),
        slow((4, 4), 60),
        slow((8, 8), 21),
        slow((8, 16), 60),
        slow((16, 8), 1),
        slow((16, 16), 21),
        slow((32, 32), 21),
    ],
)
def test_hands_off_what_the_golden_model_computes(array, count, tmp_path):
    prefill(random_model(TINY, 1), array, tokens(count), tmp_path, stall=0.3)


MANY = (3, 40, 1, 9, 17, 2, 2, 30)


@pytest.mark.parametrize(
    ("array", "counts"),
    [
        ((4, 4), (5, 1, 13)),
        slow((4, 4), MANY),
        slow((8, 16), (5, 1, 13)),
        slow((16, 8), MANY),
    ],
)
def test_several_prompts_are_read_together(array, counts, tmp_path):
    prefill(random_model(TINY, 1), array, tokens(*counts), tmp_path, stall=0.3)


@pytest.mark.parametrize(
    ("array", "counts"),
    [
        ((4, 4), (21,)),
        slow((8, 16), (40, 5)),
        slow((32, 32), (60,)),
    ],
)
def test_prompts_are_read_in_chunks(array, counts, tmp_path):
    plan = ChunkPlan(8, TINY.kv_heads, 1)
    prefill(random_model(TINY, 1), array, tokens(*counts), tmp_path, plan=plan, stall=0.3)


WIDE = ModelConfig(
    dim=16, hidden=24, layers=2, heads=2, kv_heads=2, vocab=50, context=64, head_width=64
)


@pytest.mark.parametrize("places", [slow(1), slow(2)])
def test_keys_and_values_of_a_head_at_a_time(places, tmp_path):
    prompts = tokens(24)
    prefill(
        random_model(WIDE, 1), (4, 4), prompts, tmp_path, plan=ChunkPlan(8, 1, places), stall=0.1
    )
