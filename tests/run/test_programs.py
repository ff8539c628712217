# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a whole machine.

Mutation that was tried by hand, and fails: a limit that does not follow the prompt.
"""

from diptych.config import MachineConfig
from diptych_sim.cost.requests import panel_cost
from diptych_sim.run.programs import compile_programs
from support.random_model import TINY, random_model


def limit_and_prediction(hbm_latency):
    """Return the cycles that a token may take, and those that are predicted for the prompt."""
    machine = MachineConfig(array=(8, 8), mesh=(2, 2), hbm_latency=hbm_latency)
    programs = compile_programs(
        random_model(TINY, 1), [[5, 40, 9]], [2], machine=machine, stage="all"
    )
    assert programs.prefill is not None
    cost = panel_cost(programs.prefill, machine)
    return programs.generate_job(damage=0.0).limit, cost.predicted_cycles


def test_a_long_prompt_gets_the_time_that_it_takes():
    fast, slow = limit_and_prediction(100), limit_and_prediction(60_000)
    assert slow[0] - fast[0] > 2 * (slow[1] - fast[1]) > 500_000
