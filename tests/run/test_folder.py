# SPDX-License-Identifier: BSD-2-Clause
"""What a run leaves behind: samples that sum, frames that arrive, operations in order."""

import json
import shutil
from itertools import groupby

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych.link.link import LINK_CAUSES
from diptych.mesh.core import CAUSES
from diptych_sim.run.folder import EVENTS, NoRunError, read_run, sampling
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model
from support.run_folders import samples_of

MACHINE = MachineConfig(array=(8, 8), mesh=(2, 2))
PROMPT = np.random.default_rng(2).integers(0, TINY.vocab, 9).tolist()
RESET_CYCLES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    about = {"config": {}, "prompts": ["a prompt"]}
    done = generate(random_model(TINY, 3), [PROMPT], [4], machine=MACHINE, out=path, about=about)
    assert done.matches_golden
    return path


def test_causes_of_each_sample_sum_to_its_cycles(folder):
    run = read_run(folder)
    panel, mesh = samples_of(run)
    tokens = run.all("token")
    assert mesh.cycles[-1] == tokens[-1]["cycle"]
    tiles = np.sum([mesh.of(cause) for cause in CAUSES], axis=0)
    assert (tiles == (mesh.cycles - RESET_CYCLES)[:, None]).all()
    assert panel.cycles[0] == run.all("started")[0]["cycle"]
    assert panel.cycles[-1] == tokens[0]["cycle"]
    link = np.sum([panel.of(f"link.link_{cause}") for cause in LINK_CAUSES], axis=0)
    assert (link == panel.cycles - RESET_CYCLES).all()
    assert (np.diff(panel.values, axis=0) >= 0).all()


def test_samples_end_with_the_counters_of_the_run(folder):
    run = read_run(folder)
    panel, mesh = samples_of(run)
    first, last = run.all("counters")
    for event in (first, last):
        (at,) = np.flatnonzero(mesh.cycles == event["cycle"])
        seen = [dict(zip(mesh.names, map(int, tile), strict=True)) for tile in mesh.values[at]]
        assert seen == event["tiles"]
    parts = {
        f"{part}.{name}": n for part, names in first["parts"].items() for name, n in names.items()
    }
    assert dict(zip(panel.names, map(int, panel.values[-1]), strict=True)) == parts


def test_each_frame_is_queued_sent_accepted_and_delivered(folder):
    run = read_run(folder)
    sent = run.all("frame_sent")
    frames = TINY.layers * len(PROMPT) * 2 + 1
    assert [event["sequence"] for event in sent] == list(range(frames))
    assert [e["layer"] for e in sent[:-1]] == [n for n in range(TINY.layers) for _ in range(2 * 9)]
    assert [e["position"] for e in sent[:-1]] == [*range(len(PROMPT))] * 2 * TINY.layers
    assert [e["what"] for e in sent] == (["keys"] * 9 + ["values"] * 9) * TINY.layers + ["token"]
    at = {what: run.all(f"frame_{what}") for what in ("queued", "accepted", "delivered")}
    for events in at.values():
        assert [event["count"] for event in events] == list(range(1, frames + 1))
    for queued, head, accepted, delivered in zip(
        at["queued"], sent, at["accepted"], at["delivered"], strict=True
    ):
        assert queued["cycle"] < head["cycle"] < accepted["cycle"] < delivered["cycle"]


def test_operations_come_in_the_order_of_the_program(folder):
    run = read_run(folder)
    _, mesh = samples_of(run)
    names = [name for _, name, _ in run.start["plan"]["pieces"]]
    layer = [
        "norm",
        "queries, keys, values",
        "scores",
        "contexts",
        "output",
        "norm",
        "gate and up",
        "down",
    ]
    token = ["embedding", "position", *layer * TINY.layers, "norm", "best token"]
    marks = [mark for event in run.all("operations") for mark in event["marks"]]
    found = [names[number] for _, number in marks]
    # A wide layer goes aside while its sums travel, and comes back.
    assert [name for name, _ in groupby(n for n in found if n != "wide hidden")] == token * 3
    cycles = [cycle for cycle, _ in marks]
    assert cycles == sorted(cycles)
    # All three tokens are few enough to be sampled at every operation.
    assert set(cycles) <= set(mesh.cycles.tolist())


def test_the_plan_bounds_its_samples():
    pieces = [(0, "a", False), (3, "b", True), (9, "c", True)]
    small = sampling(pieces, [], mesh=(2, 2), layers=2, rounds=10)
    assert small["detailed"] == list(range(1, 10))
    assert small["sampled"] == list(range(10))
    big = sampling(pieces, [], mesh=(64, 64), layers=30, rounds=500)
    assert big["detailed"] == [250]
    assert big["sampled"][0] == 0
    assert big["sampled"][-1] == 499
    assert len(big["sampled"]) <= 28
    assert 249 in big["sampled"]


def test_a_run_that_was_cut_off_is_read_as_far_as_it_came(folder, tmp_path):
    whole = read_run(folder)
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    text = (cut / EVENTS).read_text()
    (cut / EVENTS).write_text(text[: len(text) // 2])
    samples = (cut / "mesh.u32").read_bytes()
    (cut / "mesh.u32").write_bytes(samples[: len(samples) // 2])
    run = read_run(cut)
    assert run.result is None
    assert run.events == whole.events[: len(run.events)]
    (_, mesh), (_, all_of_it) = samples_of(run), samples_of(whole)
    assert 0 < len(mesh.cycles) < len(all_of_it.cycles)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "it has no events.jsonl"),
        (lambda path: (path / EVENTS).write_text("{}\n"), "an event in each line"),
        (lambda path: (path / EVENTS).write_text('{"kind": "token"}\n'), "what was run"),
        (lambda path: (path / EVENTS).write_text(""), "what was run"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(NoRunError, match=message):
        read_run(tmp_path)


def test_a_result_that_is_none_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "result.json").write_text(json.dumps({})[:-1])
    with pytest.raises(NoRunError, match="must hold a result"):
        read_run(tmp_path / "run")
