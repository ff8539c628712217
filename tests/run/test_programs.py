# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a whole machine.

Mutations that were tried by hand, and fail: a limit that does not follow the prompt; colors that are
a member of their enumeration.
"""

from dataclasses import replace
from functools import partial

from diptych.config import MachineConfig
from diptych.mesh.tile import Tile
from diptych_sim.cache.fingerprint import fingerprint
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


def test_tiles_of_columns_that_share_heads_have_a_place_in_the_build_cache():
    model = random_model(replace(TINY, heads=1, kv_heads=1), 1)
    machine = MachineConfig(mesh=(2, 4))
    programs = compile_programs(model, [[5, 40, 9]], [2], machine=machine, stage="decode")
    assert programs.decode.placement.split > 1
    tile = partial(Tile, **programs.machine.mesh_parameters)
    assert fingerprint(tile, packages=("diptych", "diptych_sim.engine")) is not None
