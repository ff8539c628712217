# SPDX-License-Identifier: BSD-2-Clause
"""``diptych project``: every system in one table, checks of rows, and mistakes in one line."""

import csv
import io
import json
import re

import pytest

from diptych_sim.cost.projection.parameters import fitted
from support.command import command
from support.result_schema import valid

HEAD = "system,chips,model,dtype,batch,prompt_tokens,output_tokens,metric,value,source\n"
ROW = "a100,1,llama-2-7b,bf16,1,5,200,tokens_per_second,104.9,gpt-fast\n"


def test_projects_every_system(capsys, monkeypatch, tmp_path):
    files = {name: tmp_path / f"x.{name}" for name in ("csv", "html")}
    status, out, err = command(
        capsys,
        monkeypatch,
        *("project", "--model", "llama-3.1-8b", "--system", "all", "--json", "-"),
        *("--csv", str(files["csv"]), "--html", str(files["html"])),
    )
    assert status == 0
    result = json.loads(out)
    valid(result, "project")
    by_id = {row["system"]: row for row in result["systems"]}
    assert not by_id["broadcom"]["published"]
    assert by_id["a100"]["calibrated"]
    assert not by_id["b200"]["calibrated"]
    assert by_id["trn2"]["joules_per_token"] is None
    # What software adds on a wafer is a factor, which is told.
    factors = {name: row["parameters"] for name, row in by_id.items() if row["published"]}
    assert factors["wse3"]["merge_factor"] == fitted().of("wse3", "merge_factor") != 1
    assert f"{factors['wse3']['merge_factor']:.3g} times those of our mesh" in err
    assert "merge_factor" not in factors["h100"]
    assert factors["diptych"] == {}
    assert re.search(r"^b200 \* .* bandwidth *$", err, re.MULTILINE), err
    assert re.search(r"^h100 .* bandwidth *$", err, re.MULTILINE), err
    assert "* not calibrated" in err
    assert "…" not in err
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [row["system"] for row in rows] == list(by_id)
    assert float(rows[0]["tpot_ms"]) == by_id[rows[0]["system"]]["tpot_ms"]
    page = files["html"].read_text()
    assert "Cerebras WSE-3" in page
    assert f"merge_factor {factors['wse3']['merge_factor']:.4g}" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    )


def test_a_users_system_beside_the_others(capsys, monkeypatch, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'name = "Mine"\nkind = "accelerator"\n[fields]\n'
        + "".join(
            f'{name} = {{ value = {value}, status = "published", source = "x" }}\n'
            for name, value in (("bf16_tflops", 100), ("memory_gb", 80), ("memory_tbps", 2))
        )
    )
    options = ("--systems", str(tmp_path), "--json", "-")
    status, out, _ = command(capsys, monkeypatch, "project", "--system", "mine", *options)
    assert status == 0
    (row,) = json.loads(out)["systems"]
    assert not row["calibrated"]
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + ROW.replace("a100", "mine"))
    status, out, _ = command(capsys, monkeypatch, "project", "--check", str(path), *options)
    assert status == 0
    result = json.loads(out)
    valid(result, "project_check")
    (row,) = result["rows"]
    assert not row["calibrated"]
    assert result["mean_error"] == abs(row["error"])


def test_checks_rows(capsys, monkeypatch, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + ROW + ROW.replace("104.9", "209.8"))
    status, out, err = command(capsys, monkeypatch, "project", "--check", str(path), "--json", "-")
    assert status == 0
    result = json.loads(out)
    valid(result, "project_check")
    first, second = (row["error"] for row in result["rows"])
    assert abs(first) < 0.05
    assert second == pytest.approx((1 + first) / 2 - 1)
    assert result["mean_error"] == pytest.approx((abs(first) + abs(second)) / 2)
    assert "Mean error" in err


def test_names_the_row_that_cannot_be_predicted(capsys, monkeypatch, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + ROW + ROW.replace("tokens_per_second", "cycles_per_token"))
    status, out, err = command(capsys, monkeypatch, "project", "--check", str(path), "--json", "-")
    assert (status, out) == (2, "")
    where = f"error: Rows {path}, line 3: cycles_per_token of a100: nobody publishes a clock\n"
    assert err == where


def test_compares_with_another_system(capsys, monkeypatch):
    words = ("project", "--model", "llama-3.1-8b", "--against", "h100:2", "--json", "-")
    status, out, err = command(capsys, monkeypatch, *words)
    assert status == 0
    result = json.loads(out)
    valid(result, "project")
    assert result["against"]["chips"] == 2
    for row in result["systems"]:
        if row["published"]:
            ratio = row["tokens_per_second_user"] / result["against"]["tokens_per_second_user"]
            assert row["ratio"]["tokens_per_second_user"] == pytest.approx(ratio)
    assert "x 2 h100" in err


def test_the_border_has_both_sides(capsys, monkeypatch, tmp_path):
    words = ("project", "--prefill", "trn2", "--prefill-chips", "4", "--decode", "wse3", "--border")
    page = tmp_path / "x.html"
    status, out, err = command(capsys, monkeypatch, *words, "--json", "-", "--html", str(page))
    assert status == 0
    result = json.loads(out)
    valid(result, "project")
    best = {(point["prompt_tokens"], point["tokens"]): point for point in result["border"]}
    assert best[32, 256]["best"] == "decode_system_alone"
    assert best[32768, 256]["best"] == "split_layer_wise"
    for point in best.values():
        assert point["request_ms"][point["best"]] == min(point["request_ms"].values())
    # A point of the border is the split at its lengths.
    lengths = ("--prompt-tokens", "2048", "--tokens", "64")
    status, out, _ = command(capsys, monkeypatch, *words, *lengths, "--json", "-")
    times = json.loads(out)["split"]["request_ms"]
    assert best[2048, 64]["request_ms"]["split_layer_wise"] == times["split_layer_wise"]
    assert re.search(r"^ *256 +D ", err, re.MULTILINE), err
    assert "Fastest way" in page.read_text()


def test_the_border_names_only_what_holds_the_request(capsys, monkeypatch):
    words = (
        "project",
        "--prefill",
        "diptych",
        "--decode",
        "diptych-128",
        "--border",
        "--json",
        "-",
    )
    status, out, err = command(
        capsys, monkeypatch, *words, "--model", "smollm2-135m", "--batch", "2"
    )
    assert status == 0
    result = json.loads(out)
    valid(result, "project")
    best = {(point["prompt_tokens"], point["tokens"]): point["best"] for point in result["border"]}
    # 8x8 tiles hold no weights; 128x128 of 64 KiB hold 135 MB of them and so many positions.
    weights, sram = 134.5e6, 128 * 128 * 65536
    for (prompt, tokens), way in best.items():
        held = weights + 2 * (prompt + tokens) * 30 * 2 * 3 * 64 * 1.5 <= sram
        assert (way is not None) == held, (prompt, tokens)
        assert way != "prefill_system_alone"
    assert {None, "decode_system_alone"} == set(best.values())
    assert "- the memory of none holds it" in err


def test_the_bench_has_its_errors_as_a_result(capsys, monkeypatch):
    status, out, err = command(capsys, monkeypatch, "bench", "projection", "--json", "-")
    assert status == 0
    result = json.loads(out)
    valid(result, "bench")
    found = result["projection"]
    assert 0 < found["in_sample"] < found["row_out"] < 0.12
    assert found["row_out"] < found["system_out"]
    assert 0 < found["validation"] < 0.2
    assert f"{found['row_out']:.1%}" in err


MISTAKES = [
    (["--border"], "--prefill, --decode, .* require both --prefill and --decode"),
    (["--against", "h900"], "System must be one of a100, .*, not 'h900'"),
    (
        ["--against", "h100:0"],
        r"Other system \(--against\) must be SYSTEM or SYSTEM:CHIPS, .*'h100:0'",
    ),
    (["--against", "broadcom"], r"Broadcom \(broadcom\): nobody publishes anything"),
    (["--model", ""], "Model must be one of .*, not ''"),
    (["--model", "gpt-9"], "Model must be one of .*, not 'gpt-9'"),
    (["--system", "h900"], "System must be one of a100, .*, not 'h900'"),
    (["--systems", "/nowhere"], r"Systems \(--systems\) must be a folder, not missing: /nowhere"),
    (["--batch", "0"], ".*--batch.*"),
    (["--tokens", "-1"], ".*--tokens.*"),
    (["--dtype", "fp3"], ".*--dtype.*"),
    (["--prefill", "trn2"], "--prefill, --decode, .* require both --prefill and --decode"),
    (["--link-gbps", "9"], "--prefill, --decode, .* require both --prefill and --decode"),
    (
        ["--prefill", "trn2", "--decode", "wse3", "--link-gbps", "-1"],
        r"Link \(--link-gbps\) must be above 0 Gbit/s, not -1",
    ),
    (
        ["--prefill", "h100", "--decode", "wse3"],
        r"Link \(--link-gbps\) must be given: nobody publishes scale_out_gbps of h100",
    ),
    (
        ["--prefill", "broadcom", "--decode", "wse3"],
        r"Broadcom \(broadcom\): nobody publishes anything",
    ),
    (
        ["--prefill", "trn2", "--decode", "wse3", "--system", "all"],
        "--prefill and --decode exclude --system and --chips",
    ),
    (["--check", "/nowhere.csv"], r"Rows \(--check\) /nowhere.csv must be a CSV file .*"),
    (["--check", "x.csv", "--model", "builtin"], "--check excludes --model: .*"),
    (
        ["--check", "x.csv", "--batch", "1", "--border", "--link-gbps", "9"],
        "--check excludes --batch, --link-gbps, --border: .*",
    ),
    (["--csv", "x.txt"], r"CSV file \(--csv\) must be a file that ends in .csv, not x.txt"),
    (["--html", "/nowhere/x.html"], r"HTML file \(--html\) must be in a folder that exists, .*"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_refuses(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, monkeypatch, "project", *arguments)
    assert status == 2
    assert out == ""
    assert re.fullmatch(f"error: {message}\n", err), err
    assert not list(tmp_path.iterdir())
