# SPDX-License-Identifier: BSD-2-Clause
"""``diptych serve``: traces and rates, the best ratio of machines, and mistakes in one line."""

import json
import re

import pytest

from support.command import command
from support.result_schema import valid

SPLIT = ("serve", "--prefill", "trn2", "--decode", "wse3")


def test_serves_a_trace(capsys, monkeypatch, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("arrival,prompt_tokens,output_tokens\n0,100,10\n0.01,2000,1\n5,300,30\n")
    status, out, _ = command(
        capsys, monkeypatch, *SPLIT, "--trace", str(path), "--json", "-", "--ttft-limit", "1e6"
    )
    assert status == 0
    result = json.loads(out)
    valid(result, "serve")
    assert result["conserved"]["tokens"] == {"in": 41, "out": 41}
    assert result["conserved"]["link_bytes"]["in"] == 400 * 2 * 32 * 8 * 128 * 2
    assert result["good_share"] == 1
    assert result["calibrated"]
    assert result["queueing"] is None


def test_finds_the_best_ratio(capsys, monkeypatch):
    status, out, _ = command(
        capsys,
        monkeypatch,
        *(*SPLIT, "--rate", "30", "--requests", "400", "--best-of", "5", "--ttft-limit", "400"),
        *("--json", "-"),
    )
    assert status == 0
    result = json.loads(out)
    ratios = result["ratios"]
    assert sorted(row["prefill_machines"] for row in ratios) == [1, 2, 3, 4]
    assert all(row["prefill_machines"] + row["decode_machines"] == 5 for row in ratios)
    assert result["best"]["goodput_per_second"] == max(row["goodput_per_second"] for row in ratios)
    # Trainium's prefill takes longer than 1 / 30 s.
    assert result["best"]["prefill_machines"] > 1


def test_our_prefill_panel_needs_no_sram(capsys, monkeypatch):
    words = ("serve", "--model", "smollm2-135m", "--prefill", "diptych", "--decode", "diptych-128")
    options = ("--rate", "4000", "--requests", "20", "--prompt-tokens", "64", "--tokens", "8")
    status, out, err = command(capsys, monkeypatch, *words, *options, "--json", "-")
    assert status == 0
    result = json.loads(out)
    valid(result, "serve")
    assert not result["calibrated"]
    assert "e+" not in err
    assert result["config"]["link_gbps"] == 32


MISTAKES = [
    ([], "Either --system or both of --prefill and --decode must be given"),
    (["--system", "h100"], "Either --rate or --trace must be given"),
    (["--system", "h100", "--prefill", "h100"], "--prefill and --decode must be given together"),
    (["--system", "h900", "--rate", "1"], "System must be one of .*, not 'h900'"),
    (
        ["--system", "h100", "--rate", "-1"],
        r"Rate \(--rate\) must be above 0 requests a second and below 1e12, not -1",
    ),
    (["--system", "h100", "--rate", "nan"], r"Rate \(--rate\) must be above 0 .*, not nan"),
    (["--system", "h100", "--rate", "1", "--batch", "0"], ".*--batch.*"),
    (
        ["--system", "h100", "--rate", "1", "--best-of", "3"],
        "--best-of requires --prefill and --decode",
    ),
    (
        ["--system", "h100", "--trace", "/nowhere"],
        r"Trace \(--trace\) /nowhere must be a CSV file, not: .*",
    ),
    (
        ["--system", "h100", "--trace", "x", "--seed", "1"],
        "--trace excludes --seed: it has the requests",
    ),
    (
        ["--system", "h100", "--rate", "1", "--links", "2", "--prefill-machines", "1"],
        "--system excludes --prefill-machines, --links: its machines do both phases",
    ),
    (
        ["--prefill", "trn2", "--decode", "wse3", "--rate", "1", "--machines", "2"],
        "--prefill and --decode exclude --machines",
    ),
    (
        [*SPLIT[1:], "--rate", "1", "--best-of", "3", "--decode-machines", "2"],
        "--best-of excludes --decode-machines: it tries all numbers",
    ),
    (["--system", "broadcom", "--rate", "1"], r"Broadcom \(broadcom\): nobody publishes anything"),
    (
        ["--system", "h100", "--rate", "1", "--chips", "1", "--prompt-tokens", "1000000"],
        "1 x h100 has .* GB beside the weights, and a request of 1,000,256 positions needs 131",
    ),
    (
        ["--system", "diptych", "--rate", "1"],
        "1 x diptych has 0 GB beside the weights, and a request of 1,280 positions needs 0.126",
    ),
    (
        ["--prefill", "h100", "--decode", "wse3", "--rate", "1"],
        r"Link \(--link-gbps\) must be given: nobody publishes scale_out_gbps of h100",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_refuses(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, monkeypatch, "serve", *arguments)
    assert status == 2
    assert out == ""
    assert re.fullmatch(f"(.* \\.\\.\\.\n)?error: {message}\n", err), err
    assert not list(tmp_path.iterdir())
