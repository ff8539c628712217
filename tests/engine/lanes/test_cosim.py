# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine with its mesh on lanes: all that a run says is as with Verilator."""

import json

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.tiling import Tiling, tile_in_parts
from diptych_sim.engine.names import ENGINES
from diptych_sim.host import cosimulated_mesh
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model


@pytest.mark.slow
def test_events_and_accounts_agree(tmp_path):
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
    machine = MachineConfig(array=(8, 8), mesh=(2, 2))
    model = random_model(TINY, 3)
    events, files, accounts = [], [], []
    for engine in ENGINES:
        out = tmp_path / engine
        out.mkdir()
        done = generate(model, [prompt], [4], machine=machine, engine=engine, out=out)
        assert done.matches_golden
        lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        for line in lines:
            del line["wall"]
        events.append(lines)
        files.append({f.name: f.read_bytes() for f in out.iterdir() if f.suffix == ".u32"})
        accounts.append(account(done))
    # Tokens and their cycles, counters of all parts and tiles, monitors, frames, operations.
    assert events[0] == events[1]
    assert files[0] == files[1]
    assert len(files[0]) == 2
    assert accounts[0] == accounts[1]


@pytest.mark.slow
def test_threads_change_nothing(monkeypatch, tmp_path):
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
    events = []
    for threads in ("1", "2"):
        monkeypatch.setenv("DIPTYCH_THREADS", threads)
        done = generate(
            random_model(TINY, 3),
            [prompt],
            [4],
            machine=MachineConfig(mesh=(10, 13)),
            stage="decode",
            engine="lanes",
            out=tmp_path,
        )
        assert done.matches_golden
        events.append([{k: v for k, v in event.items() if k != "wall"} for event in done.events])
    assert events[0] == events[1]


def test_tiles_move_behind_the_prompt(monkeypatch, tmp_path):
    """In rows while keys and values come, near behind them: all that a run says is the same."""
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 5).tolist()
    moved, events, files = [], [], []
    real = LaneMesh.lay_out
    monkeypatch.setattr(
        LaneMesh, "lay_out", lambda self, to: moved.append((self.tiling, to)) or real(self, to)
    )
    for number, tiling in enumerate((tile_in_parts(2, 2), Tiling(2, 2, 1, 1))):
        monkeypatch.setattr(cosimulated_mesh, "tile_in_rows", lambda *_, tiling=tiling: tiling)
        out = tmp_path / str(number)
        out.mkdir()
        done = generate(
            random_model(TINY, 3),
            [prompt, prompt[1:]],
            [3, 3],
            machine=MachineConfig(array=(8, 8), mesh=(2, 2)),
            engine="lanes",
            out=out,
        )
        assert done.matches_golden
        events.append([{k: v for k, v in event.items() if k != "wall"} for event in done.events])
        files.append({f.name: f.read_bytes() for f in out.iterdir() if f.suffix == ".u32"})
    assert events[0] == events[1]
    assert files[0] == files[1]
    assert moved == [(Tiling(2, 2, 1, 1), tile_in_parts(2, 2))]
