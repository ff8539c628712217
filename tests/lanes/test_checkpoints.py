# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints: what was killed goes on, and nothing that goes wrong destroys one."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diptych_sim.decode_only import decode_only
from diptych_sim.engine.errors import CheckpointError, SimulationError
from diptych_sim.engine.lanes.checkpoint import Checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from jobs import TINY, random_model


def decode(file=None, *, every=1000, resume=False, tokens=6, on_event=None):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    checkpoint = file and Checkpoint(file=file, every=every, resume=resume)
    return decode_only(
        random_model(TINY, 1),
        [prompt],
        [tokens],
        mesh=(2, 2),
        engine="lanes",
        checkpoint=checkpoint,
        on_event=on_event,
    )


def without_wall(events):
    return [{k: v for k, v in event.items() if k != "wall"} for event in events]


def die(event):
    if event["kind"] == "token" and event["index"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path):
    file = tmp_path / "run.checkpoint"
    program = f"import test_checkpoints as t; t.decode(t.Path({str(file)!r}), on_event=t.die)"
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=False)
    assert killed.returncode == -signal.SIGKILL
    seen = []

    def see(event):
        if event["kind"] == "token":
            seen.append(event["index"])

    resumed = decode(file, resume=True, on_event=see)
    whole = decode()
    assert resumed.matches_golden
    assert without_wall(resumed.events) == without_wall(whole.events)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "run.checkpoint"

    def limit(event):
        if event["kind"] == "token" and event["index"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(SimulationError, match=r"^Cannot write checkpoint .*: File too large;"):
            decode(file, on_event=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert decode(file, resume=True).matches_golden


@pytest.mark.slow
def test_refuses_what_is_not_of_this_run(tmp_path):
    file = tmp_path / "run.checkpoint"
    decode(file)
    with pytest.raises(CheckpointError, match=r"^Checkpoint .* must be of this run, not of anot"):
        decode(file, tokens=7, resume=True)
    whole = file.read_bytes()
    for content in (b"nothing", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^Checkpoint must be one of a mesh on lanes"):
            decode(file, resume=True)
