# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel against the golden model: KV vectors of every layer, and the first token."""

import json
from functools import partial

import numpy as np
import pytest

from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.engine.simulate import simulate
from diptych_sim.host.public_signals import PANEL_NAME, PANEL_PUBLIC
from support.golden_handoff import expected_handoff, expected_in_chunks
from support.random_model import TINY, random_model


def prefill(model, array, prompts, folder, *, chunk=None, stall=0.0, on_event=None):
    rows, columns = array
    program = compile_prefill(model, rows, columns, *prompts, chunk=chunk)
    handoff = expected_handoff(model, *prompts)
    if chunk is not None:
        handoff = expected_in_chunks(model, *prompts, size=chunk)
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
    prefill(random_model(TINY, 1), array, tokens(*counts), tmp_path, chunk=8, stall=0.3)
