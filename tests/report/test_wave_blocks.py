# SPDX-License-Identifier: BSD-2-Clause
"""Waveforms of the whole machine, read back: a token at its cycle, states, wavelets on a link."""

import numpy as np
import pytest
from pywellen import Waveform  # pyright: ignore[reportAttributeAccessIssue] - compiled

from diptych.config import MachineConfig
from diptych_sim.command.waves import plan_waves
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model

MESH = (2, 2)
PERIOD = 2
BEFORE, AFTER = 1500, 300


@pytest.mark.slow
def test_shows_the_machine(tmp_path):
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
    model = random_model(TINY, 3)
    machine = MachineConfig(array=(8, 8), mesh=MESH)

    def run(name, first, last):
        blocks = "host,prefill,link,tile_0_0,tile_0_1"
        path = str(tmp_path / name)
        recording = plan_waves(path, first, last, blocks, mesh=MESH, decode_alone=False)
        assert recording is not None
        shown = {"waves": recording.plan, "engine": "verilator"}
        done = generate(model, [prompt], [3], machine=machine, **shown)
        assert done.matches_golden
        start = next(event["cycle"] for event in done.events if event["kind"] == "started")
        tokens = [event for event in done.events if event["kind"] == "token"]
        return recording, [(event["cycle"] - start, event["token"]) for event in tokens]

    _, tokens = run("start.fst", 0, 1)
    cycle, token = tokens[1]
    recording, _ = run("token.fst", cycle - BEFORE, cycle + AFTER)
    found = {var.full_name: var for var in Waveform(str(recording.plan.file)).all_vars()}

    def at(name, cycle):
        return found[name].signal.value_at(cycle * PERIOD)

    # The testbench sees the token at the edge that ends its cycle.
    assert at("system.token_valid", cycle - 1) == 1
    assert at("system.token", cycle - 1) == token
    assert at("system.token_valid", cycle) == 0

    def names(name):
        var = found[name]
        known = {int(code, 2): name for code, name in var.enum_type[1]}
        cycles = range(cycle - BEFORE, cycle + AFTER)
        return {known[at(name, c)] for c in cycles}

    tile = "system.decode.mesh.tile_0_0"
    assert {"MATVEC", "REQUANTIZE"} <= names(f"{tile}.core.pipe.operation.op")
    assert names("system.prefill.panel.queues.fsm_state")
    # What leaves a tile is what enters its neighbor, in the same cycle.
    moved = 0
    for c in range(cycle - BEFORE, cycle + AFTER):
        valid = at(f"{tile}.east_o__valid", c)
        assert valid == at("system.decode.mesh.tile_0_1.west_i__valid", c)
        if valid:
            moved += 1
            for field in ("color", "data"):
                sent = at(f"{tile}.east_o__wavelet.{field}", c)
                assert sent == at(f"system.decode.mesh.tile_0_1.west_i__wavelet.{field}", c)
    assert moved > 10
    assert not any(name.startswith("system.decode.mesh.tile_1_0.core") for name in found)
