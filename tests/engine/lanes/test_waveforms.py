# SPDX-License-Identifier: BSD-2-Clause
"""Waveforms of tiles on lanes, read back: names, values and enumerations are Verilator's."""

import numpy as np
import pytest
from pywellen import Waveform  # pyright: ignore[reportAttributeAccessIssue] - compiled

from diptych.config import MachineConfig
from diptych_sim.command.waves import plan_waves
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model

MESH = (2, 2)
PERIOD = 2
FIRST, LAST = 4700, 5100
TILES = ("decode_panel.mesh.tile_0_0", "decode_panel.mesh.tile_1_1")


def record(folder, engine, suffix):
    file = folder / f"{engine}.{suffix}"
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    blocks = "host,tile_0_0,tile_1_1"
    recording = plan_waves(str(file), FIRST, LAST, blocks, mesh=MESH, decode_alone=True)
    assert recording is not None
    model = random_model(TINY, 1)
    done = generate(
        model,
        [prompt],
        [2],
        machine=MachineConfig(mesh=MESH),
        stage="decode",
        engine=engine,
        waves=recording.plan,
    )
    assert done.matches_golden
    return {var.full_name: var for var in Waveform(str(file)).all_vars()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return record(tmp_path_factory.mktemp("verilator"), "verilator", "fst")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["fst", "vcd"])
def test_tiles_show_what_verilator_shows(theirs, suffix, tmp_path):
    mine = record(tmp_path, "lanes", suffix)
    of_tiles = [name for name in mine if name.startswith(TILES)]
    assert len(of_tiles) > 500
    assert {f"{TILES[0]}.core.watch_pc", f"{TILES[1]}.core.instruction.op"} <= set(of_tiles)
    assert f"{TILES[1]}.north_i__valid" in of_tiles
    assert "decode_panel.mesh.tile_0_1.core.watch_pc" not in mine
    changing = named = 0
    for name in of_tiles:
        here, there = mine[name], theirs[name]
        values = [
            [var.signal.value_at(cycle * PERIOD) for cycle in range(FIRST, LAST)]
            for var in (here, there)
        ]
        assert values[0] == values[1], name
        changing += len(set(values[0])) > 1
        if suffix == "fst" and there.enum_type is not None:
            assert dict(here.enum_type[1]) == dict(there.enum_type[1]), name
            named += 1
    assert changing > 100
    assert named > 5 or suffix == "vcd"
