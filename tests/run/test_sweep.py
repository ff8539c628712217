# SPDX-License-Identifier: BSD-2-Clause
"""A sweep: points, ranking, Pareto front, and a file to resume from."""

import json
import re

import pytest

from diptych.config import DEFAULTS
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.projection.own_machine import decode_cycles, prefill_cycles
from diptych_sim.run.sweep import METRICS, SweepError, designs, evaluate, pareto, points, sweep
from support.command import command

SHAPE = load_shape("smollm2-135m")
AXES = {
    "model": (SHAPE.name,),
    "array": ("8x8", "16x16", "64x64"),
    "mesh": ("8x8", "64x64", "128x128"),
    "sram_bytes": (24576, 49152),
    "tile_macs": (8, 16),
    "hbm": (16, 64),
    "link": (1, 4),
    "batch": (1, 2),
    "prompt_tokens": (16, 256),
    "tokens": (32,),
}
ROWS = sweep(SHAPE, points(AXES))


def test_a_point_is_the_cost_model():
    point = (SHAPE.name, "16x16", "8x8", 24576, 8, 64, 4, 1, 256, 1)
    row = evaluate(SHAPE, point)
    decode = decode_cycles(SHAPE, DEFAULTS, 256)
    assert row["tpot_cycles"] == decode.products + decode.waits
    assert row["ttft_cycles"] == max(prefill_cycles(SHAPE, DEFAULTS, 256))
    assert row["multipliers"] == 16 * 16 + 8 * 64
    assert row["buildable"]
    assert not row["fits"]
    assert not evaluate(SHAPE, (*point[:4], 16, *point[5:]))["buildable"]
    assert evaluate(SHAPE, (SHAPE.name, "16x16", "128x128", *point[3:]))["fits"]


def test_more_of_anything_is_never_slower():
    by_point = {tuple(row[key] for key in AXES): row for row in ROWS}
    for point, row in by_point.items():
        for place, key in enumerate(AXES):
            if key not in ("hbm", "link", "tile_macs"):
                continue
            bigger = by_point[(*point[:place], max(AXES[key]), *point[place + 1 :])]
            assert bigger["request_cycles"] <= row["request_cycles"], (point, key)


def test_in_processes_as_in_one():
    many = points(AXES | {"prompt_tokens": tuple(range(1, 9))})
    assert len(many) > 512
    assert sweep(SHAPE, many, jobs=2) == sweep(SHAPE, many)


def test_resumes_from_what_is_there(tmp_path):
    todo = points(AXES)
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    rows = sweep(SHAPE, todo, out=whole)
    lines = whole.read_text().splitlines(keepends=True)
    assert len(lines) == len(todo) + 1
    # Killed while it wrote a line; and a figure that tells whether it is evaluated again.
    marked = lines[5].replace("True", "False", 1) if "True" in lines[5] else lines[5]
    cut.write_text("".join([*lines[:5], marked, *lines[6:100], lines[100][:7]]))
    again = sweep(SHAPE, todo, out=cut, resume=True)
    assert [row for row in again if row != rows[todo.index(tuple(row[k] for k in AXES))]] == (
        [again[4]] if marked != lines[5] else []
    )
    assert len(cut.read_text().splitlines()) == len(todo) + 1
    for head in ("", "model,arr"):
        cut.write_text(head)
        assert sweep(SHAPE, todo[:2], out=cut, resume=True) == rows[:2]
        assert len(cut.read_text().splitlines()) == 3
    cut.write_text("a,b\n1,2\n")
    with pytest.raises(SweepError, match="must be a CSV file of a sweep to resume from"):
        sweep(SHAPE, todo, out=cut, resume=True)


@pytest.mark.parametrize("metric", METRICS)
def test_designs_and_their_front(metric):
    ranked = designs(ROWS, metric)
    assert len(ranked) * 4 == len(ROWS)
    values = [row[metric] for row in ranked]
    assert values == sorted(values, reverse=METRICS[metric] == "most")
    front = pareto(ranked, metric)
    best = (min if METRICS[metric] == "least" else max)(values)
    assert front[-1][metric] == best
    sign = 1 if METRICS[metric] == "least" else -1
    for row in front:
        assert not any(
            other["multipliers"] <= row["multipliers"] and sign * other[metric] < sign * row[metric]
            for other in ranked
        )


def test_the_command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ("sweep", "--mesh", "8x8,64x64,96x96", "--array", "8x8,32x32", "--json", "-")
    files = ("--out", "x.csv", "--svg", "x.svg")
    status, out, _ = command(capsys, monkeypatch, *words, *files, "--sram-bytes", "49152")
    assert status == 0
    result = json.loads(out)
    assert result["points"] == 6
    assert len(result["best"]) == 6
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 7
    status, out, _ = command(
        capsys, monkeypatch, *words, "--fitting", "--sram-bytes", "49152", "--rank", "tpot_cycles"
    )
    assert {row["mesh"] for row in json.loads(out)["best"]} == {"64x64", "96x96"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "0x4"], ".*--mesh.*must be sizes RxC .*, not '0x4'"),
        (["--mesh", "8x8,"], ".*--mesh.*must be sizes RxC .*, not ''"),
        (["--hbm", "-4"], ".*--hbm.*must be whole numbers .*, not '-4'"),
        (["--rank", "beauty"], ".*--rank.*"),
        (["--model", "gpt-9"], "Model must be one of .*, not 'gpt-9'"),
        (["--resume"], r"--resume requires a CSV file \(--out\)"),
        (["--fitting"], "--fitting must leave a design: none of this sweep holds the model"),
        (["--out", "/nowhere/x.csv"], r"CSV file \(--out\) must be in a folder that exists, .*"),
        (
            [
                "--batch",
                ",".join(map(str, range(1, 1002))),
                "--tokens",
                ",".join(map(str, range(1, 1001))),
            ],
            "Points must be at most 1,000,000, not 1,001,000",
        ),
    ],
)
def test_refuses(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, monkeypatch, "sweep", *arguments)
    assert status == 2
    assert out == ""
    assert re.fullmatch(f"(.* \\.\\.\\.\n)*error: {message}\n", err), err
    assert not list(tmp_path.iterdir())
