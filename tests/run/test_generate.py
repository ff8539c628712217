# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine: prompt to text through prefill, link and mesh, with and without damage."""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model


@pytest.mark.parametrize("damage", [0.0, 0.02])
def test_tokens_equal_the_golden_model(damage):
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
    machine = MachineConfig(array=(8, 8), mesh=(2, 2))
    model = random_model(TINY, 3)
    done = generate(model, [prompt], [4], machine=machine, damage=damage, engine="verilator")
    assert done.matches_golden
    (counters,) = [e for e in done.events if e["kind"] == "counters" and e["index"] == 3]
    link = counters["parts"]["link.transmitter"]
    # Two bytes of K and one of V for each element.
    payload = TINY.layers * len(prompt) * 3 * TINY.kv_dim + 4
    assert link["link_payload"] == payload or damage
    assert bool(link["link_retries"]) == bool(damage)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "weight_rows"), [(8, 2), (16, 4)])
def test_weights_that_load_several_rows_a_cycle_save_time(side, weight_rows):
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
    cycles = []
    for rows in (1, weight_rows):
        machine = MachineConfig(array=(side, side), mesh=(2, 2), weight_rows=rows)
        model = random_model(TINY, 3)
        done = generate(model, [prompt], [2], machine=machine)
        assert done.matches_golden
        cycles.append(account(done)["prefill"]["cycles"])
    # Measured: 4,035 of 4,866 cycles, and 2,701 of 3,272.
    assert cycles[1] < 0.84 * cycles[0]


def test_several_prompts_are_read_and_continued_together():
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, TINY.vocab, length).tolist() for length in (9, 4)]
    model = random_model(TINY, 3)
    machine = MachineConfig(array=(8, 8), mesh=(2, 2))
    done = generate(model, prompts, [4, 4], machine=machine)
    assert done.matches_golden
    assert [len(each.tokens) for each in done.sequences] == [4, 4]
    accounts = account(done)
    assert accounts["decode"]["cycles_per_token"] < min(
        each.cycles_per_token or 0 for each in done.sequences
    )
