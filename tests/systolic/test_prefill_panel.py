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
from support.golden_handoff import expected_handoff
from support.random_model import TINY, random_model


def prefill(model, array, prompts, folder, *, stall=0.0, on_event=None):
    rows, columns = array
    program = compile_prefill(model, rows, columns, *prompts)
    job = folder / "prefill.json"
    fields = {
        "hbm": program.hbm.hex(),
        "program": program.program_address,
        "limit": 100_000,
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
    prefill(random_model(TINY, 1), array, tokens(count), tmp_path, stall=0.3)


@pytest.mark.parametrize("array", [(4, 4), *SLOW])
@pytest.mark.parametrize(
    "counts", [(5, 1, 13), pytest.param((3, 40, 1, 9, 17, 2, 2, 30), marks=pytest.mark.slow)]
)
def test_several_prompts_are_read_together(array, counts, tmp_path):
    prefill(random_model(TINY, 1), array, tokens(*counts), tmp_path, stall=0.3)
