# SPDX-License-Identifier: BSD-2-Clause
"""Points of a sweep in RTL: measured beside predicted, kept in a file, and resumed from it."""

import csv
import json
from dataclasses import replace

import pytest

from diptych_sim.cost.models.shape import shape_of
from diptych_sim.run import sweep_rtl
from diptych_sim.run.generate import generate
from diptych_sim.run.sweep import SweepError, evaluate
from diptych_sim.run.sweep_rtl import MEASURED, check_shape, measure_rows, rtl_file
from support.command import command
from support.random_model import TINY

SHAPE = shape_of(TINY, "tiny")


def row(array="8x8", mesh="2x2", tokens=3):
    return evaluate(SHAPE, (SHAPE.name, array, mesh, 24576, 8, 64, 4, 1, 6, tokens))


def test_measures_points_and_goes_on_from_a_file(tmp_path, monkeypatch):
    out, told = tmp_path / "points.rtl.csv", []
    # The first one's tiles are too small for the model, whatever the closed form says.
    rows = [{**row(), "sram_bytes": 512}, row(), row(tokens=1)]
    (found,) = measure_rows(SHAPE, rows, 1, out=out, tell=told.append)
    assert found["matches_golden"]
    assert len(told) == 1
    assert "not run in RTL: array 8x8, mesh 2x2: " in told[0]
    for name in MEASURED:
        assert found[name]["predicted"] == rows[1][name]
        ratio = found[name]["predicted"] / found[name]["measured"]
        assert found[name]["error"] == pytest.approx(ratio - 1)
        assert ratio == pytest.approx(1, abs=0.35)
    assert (
        found["ttft_cycles"]["measured"] + 2 * found["tpot_cycles"]["measured"]
        == (found["request_cycles"]["measured"])
    )

    runs = []
    real = generate

    def counted(*arguments, **fields):
        runs.append(arguments)
        return real(*arguments, **fields)

    monkeypatch.setattr(sweep_rtl, "generate", counted)
    again = measure_rows(SHAPE, rows[1:], 2, out=out, resume=True)
    assert again[0] == found
    assert len(runs) == 1
    assert again[1]["tokens"] == 1
    assert again[1]["tpot_cycles"]["measured"] is None
    with out.open() as file:
        assert [record["tokens"] for record in csv.DictReader(file)] == ["3", "1"]
    assert measure_rows(SHAPE, rows[1:], 2, out=out, resume=True) == again
    assert len(runs) == 1


def test_refuses_what_no_panel_holds():
    with pytest.raises(SweepError, match=r"^RTL \(--rtl\) must have a point .*: no point can be"):
        measure_rows(SHAPE, [], 1)
    with pytest.raises(SweepError, match=r"^RTL .* that it can run: array 8x8, mesh 2x2: "):
        measure_rows(SHAPE, [{**row(), "sram_bytes": 512}], 1)
    odd = replace(SHAPE, head_dim=7)
    with pytest.raises(
        SweepError, match=r"^RTL \(--rtl\) cannot run tiny: Head width must be even"
    ):
        check_shape(odd)


def test_the_command(capsys, monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "hidden_size": TINY.dim,
                "intermediate_size": TINY.hidden,
                "num_hidden_layers": TINY.layers,
                "num_attention_heads": TINY.heads,
                "num_key_value_heads": TINY.kv_heads,
                "vocab_size": TINY.vocab,
                "tie_word_embeddings": True,
            }
        )
    )
    out = tmp_path / "x.csv"
    words = ("sweep", "--model", str(tmp_path), "--array", "8x8", "--mesh", "2x2", "--rtl", "1")
    result = tmp_path / "x.json"
    more = ("--prompt-tokens", "6", "--tokens", "3", "--out", str(out), "--json", str(result))
    picture = tmp_path / "x.svg"
    status, text, err = command(capsys, monkeypatch, *words, *more, "--svg", str(picture))
    assert status == 0, err
    (measured,) = json.loads(result.read_text())["rtl"]
    assert measured["matches_golden"]
    assert rtl_file(out).name == "x.rtl.csv"
    assert len(rtl_file(out).read_text().splitlines()) == 2
    assert "crosses: in RTL" in picture.read_text()
    assert "RTL, array 8x8, mesh 2x2" in text
    command(capsys, monkeypatch, *words, *more, "--resume")
    assert json.loads(result.read_text())["rtl"] == [measured]
