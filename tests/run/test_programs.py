# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a whole machine.

Mutation that was tried by hand, and fails: a limit that does not follow the prompt.
"""

from diptych.config import MachineConfig
from diptych_sim.cost.requests import panel_cost
from diptych_sim.run.programs import compile_programs
from support.random_model import TINY, random_model


def test_a_long_prompt_gets_the_time_that_it_takes():
    machine = MachineConfig(array=(8, 8), mesh=(2, 2), hbm_latency=30_000)
    programs = compile_programs(
        random_model(TINY, 1), [[5, 40, 9]], [2], machine=machine, stage="all"
    )
    assert programs.prefill is not None
    predicted = panel_cost(programs.prefill, machine).predicted_cycles
    assert predicted > 2_000_000, "more than a token of decode may take"
    assert programs.generate_job().limit > 2 * predicted
