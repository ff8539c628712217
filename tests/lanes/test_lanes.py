# SPDX-License-Identifier: BSD-2-Clause
"""The lane engine: the golden model's tokens, and Verilator's state."""

import json
import sys
from pathlib import Path

import pytest

from diptych.mesh.panel import DecodePanel
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.simulate import simulate

sys.path.insert(0, str(Path(__file__).parent))
from jobs import decode_job, random_job


@pytest.mark.parametrize("mesh", [(2, 2), (3, 5)])
def test_tokens_equal_the_golden_model(mesh):
    load, expected = decode_job(mesh)
    with LaneMesh(*mesh) as lanes:
        lanes.reset()
        lanes.feed(load)
        lanes.run(200_000, words=len(expected))
        assert [word.data for word in lanes.words()] == expected


def difference(mesh, load, cycles, tmp_path):
    """Return the first difference to Verilator, and how many registers and memories it has."""
    lanes = LaneMesh(*mesh)
    names = sorted({*lanes.registers(), *lanes.memories()})
    job, out = tmp_path / "job.json", tmp_path / "out.json"
    job.write_text(
        json.dumps({"load": load, "mesh": mesh, "names": names, "cycles": cycles, "out": str(out)})
    )
    simulate(
        DecodePanel(*mesh),
        name="decode_panel",
        test_module="diptych_tb.mesh.state",
        env={"DIPTYCH_STATE": job},
        public=(("tile", "*"), ("tile.*", "*")),
        options=BuildOptions(shared=("tile",)),
    )
    found = set()
    lanes.reset()
    lanes.feed(load)
    now = 0
    for cycle, state in zip(cycles, json.loads(out.read_text()), strict=True):
        lanes.run(cycle - 1 - now)
        now = cycle - 1
        mine = {**lanes.registers(), **lanes.memories()}
        for key, value in state.items():
            row, column, name = key.split(" ", 2)
            found.add(name)
            here = mine[name][int(row)][int(column)]
            # Verilog may lack high bits that nothing reads.
            here = [int(word) for word in here] if len(value) > 1 else [int(here)]
            if here != value:
                return f"cycle {cycle}, tile {row},{column}: {name}", found
    return None, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_state_equals_verilator(seed, tmp_path):
    mesh = (2, 2)
    load = decode_job(mesh)[0] if seed is None else random_job(mesh, seed)
    cycles = [1, 2, 3, 17, 500, 1000, 1500, 2000, 3000, 4000, 5000, 5500, 6000, 7001]
    first, found = difference(mesh, load, cycles, tmp_path)
    assert first is None
    assert len(found) > 240
