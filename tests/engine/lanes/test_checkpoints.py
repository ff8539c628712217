# SPDX-License-Identifier: BSD-2-Clause
"""Checkpoints: what was killed goes on, and nothing that goes wrong destroys one.

Tried faults, all seen: a resumed run forgets what counters around the mesh held, counts cycles from
its own reset, begins a round's marks anew, loses words that had arrived, feeds from the first word
again, begins the operation under way anew, or leaves the host ports as after reset.
"""

import functools
import json
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.account.mesh_kernels import account_collective
from diptych_sim.compiler.collectives.compile import Collective
from diptych_sim.engine.errors import CheckpointError, SimulationError
from diptych_sim.engine.lanes.checkpoint import Checkpoint, Keeper, _alone
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.collective import collective, random_vectors
from diptych_sim.run.generate import generate
from support.checkpointed_runs import decode, product
from support.random_model import TINY, random_model

PROGRAM = [sys.executable, "-m", "support.checkpointed_runs"]
MPIRUN = str(Path(sys.executable).with_name("mpirun"))


def without_wall(events):
    return [{k: v for k, v in event.items() if k != "wall"} for event in events]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path):
    file = tmp_path / "run.checkpoint"
    killed = subprocess.run([*PROGRAM, "killed", str(file)], check=False)
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


def decoded(checkpoint):
    done = decode(
        checkpoint and checkpoint.file, every=777, resume=checkpoint and checkpoint.resume
    )
    return done.matches_golden, without_wall(done.events)


def reduced(checkpoint):
    c = Collective(operation="allreduce", algorithm="two-phase", rows=3, columns=5, words=6)
    done = collective(c, random_vectors(c, 1), backend=mesh_backend("lanes"), checkpoint=checkpoint)
    return done.matches_golden, account_collective(done)


@pytest.fixture
def checkpoints(monkeypatch, tmp_path):
    """Every checkpoint of a run, one after the other."""
    kept = []
    keep = Keeper.keep

    def keep_all(self, notes, files=None):
        keep(self, notes, files)
        kept.append(shutil.copy(tmp_path / "run.checkpoint", tmp_path / f"{len(kept)}.checkpoint"))

    monkeypatch.setattr(Keeper, "keep", keep_all)
    return kept


# A product is loaded, runs and is read; the last of these checkpoints is in each of them.
@pytest.mark.parametrize(
    ("run", "every", "tried"),
    [
        (product, 130, slice(None, None, 3)),
        pytest.param(product, 37, slice(None), marks=pytest.mark.slow),
        pytest.param(reduced, 61, slice(None), marks=pytest.mark.slow),
        pytest.param(decoded, 777, slice(None, None, 5), marks=pytest.mark.slow),
    ],
)
def test_goes_on_from_any_checkpoint(tmp_path, checkpoints, run, every, tried):
    whole = run(None)
    assert whole[0]
    assert run(Checkpoint(file=str(tmp_path / "run.checkpoint"), every=every)) == whole
    files = list(checkpoints)
    assert len(files) > 5
    for file in files[tried]:
        assert run(Checkpoint(file=str(file), every=10**9, resume=True)) == whole


class StoppedError(Exception):
    """Somebody stopped the run."""


def written(kind, out, checkpoint=None, on_event=None):
    """Return all that a run tells and records, on lanes beside Verilator."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, TINY.vocab, length).tolist() for length in (9, 4)]
    model, machine = random_model(TINY, 3), MachineConfig(array=(8, 8), mesh=(2, 2))
    out.mkdir(exist_ok=True)
    options = {"engine": "lanes", "out": out, "checkpoint": checkpoint, "on_event": on_event}
    stage = "all" if kind == "whole" else "decode"
    done = generate(model, prompts, [5, 4], machine=machine, stage=stage, **options)
    accounts = account(done)
    assert done.matches_golden
    samples = {file.name: file.read_bytes() for file in out.iterdir() if file.suffix == ".u32"}
    return without_wall(done.events), samples, accounts


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tokens"), [("whole", (2, 5)), ("decode", (3, 6))])
def test_goes_on_with_a_simulator_beside_it(tmp_path, kind, tokens):
    whole = written(kind, tmp_path / "whole")
    for token in tokens:
        file = tmp_path / f"{token}.checkpoint"

        def stop(event, token=token):
            if event["kind"] == "token" and event["index"] == token:
                raise StoppedError

        with pytest.raises(StoppedError):
            written(kind, tmp_path / "out", Checkpoint(file=str(file), every=300), stop)
        resumed = Checkpoint(file=str(file), every=300, resume=True)
        # Tokens, counters, samples: also those of the link and of the prefill panel.
        assert written(kind, tmp_path / "out", resumed) == whole


@pytest.mark.slow
def test_several_processes_keep_one_checkpoint(tmp_path):
    def run(*how):
        command = [MPIRUN, "-n", "2", *PROGRAM, *how, str(tmp_path / "ck")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    whole = run("new")
    assert whole[0]
    assert run("resume") == whole
    # Another number of processes is another run.
    with pytest.raises(CheckpointError, match="must be of this run, not of another"):
        product(Checkpoint(file=str(tmp_path / "ck"), every=150, resume=True))


def limited(event):
    if event["kind"] == "token" and event["index"] == 2:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))


def test_what_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "run.checkpoint"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(SimulationError, match=r"^Cannot write checkpoint .*: File too large;"):
            decode(file, on_event=limited)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert decode(file, resume=True).matches_golden


def test_two_that_write_one_file_do_so_one_after_the_other(tmp_path):
    # Whoever waits for the other finds the checkpoint in the place of the file it had opened.
    part, file = tmp_path / "part", tmp_path / "whole"
    texts = [bytes([65 + n]) * 100_000 for n in range(4)]

    def write(text):
        with _alone(part) as out:
            out.write(text)
            out.flush()
            part.replace(file)
            seen = file.read_bytes()
            return len(seen) == len(text) and len(set(seen)) == 1

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, texts * 25))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.slow
@pytest.mark.parametrize("out", [False, True])
def test_refuses_what_is_not_of_this_run(tmp_path, out):
    file = tmp_path / "run.checkpoint"
    folder = tmp_path / "out" if out else None
    if folder is not None:
        folder.mkdir()
    run = functools.partial(decode, file, out=folder)
    run()
    with pytest.raises(CheckpointError, match=r"^Checkpoint .* must be of this run, not of anot"):
        run(tokens=7, resume=True)
    whole = file.read_bytes()
    for content in (b"nothing", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^Checkpoint must be one of a mesh on lanes"):
            run(resume=True)
