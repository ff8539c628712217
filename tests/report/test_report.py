# SPDX-License-Identifier: BSD-2-Clause
"""Reports of a run: figures equal everywhere, no errors in a browser, partial runs, comparison."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from diptych_sim.account.accounts import account
from diptych_sim.generate import Machine, generate
from diptych_sim.llm.model import ModelConfig
from diptych_sim.report.compare import compare
from diptych_sim.report.findings import findings
from diptych_sim.report.html import html_report
from diptych_sim.report.operations import operation_rows, operations_csv
from diptych_sim.report.terminal import print_accounts
from diptych_sim.trace import EVENTS, RESULT, read_run

sys.path.insert(0, str(Path(__file__).parents[1] / "compiler"))
from random_model import random_model

CONFIG = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
MACHINE = Machine(array=(8, 8), mesh=(2, 2))
PROMPT = np.random.default_rng(2).integers(0, CONFIG.vocab, 9).tolist()
CHROMIUM = shutil.which("chromium")
SCHEMA = json.loads(
    resources.files("diptych_sim.report").joinpath("result.schema.json").read_text()
)


def valid(value, kind):
    schema = SCHEMA | {"$ref": f"#/$defs/{kind}"}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    model = random_model(CONFIG, 3)
    config = {
        "model": "random",
        "prompt": "A <b>prompt</b> & more",
        "array": "8x8",
        "mesh": "2x2",
        "sram_bytes": MACHINE.sram_bytes,
        "hbm_bytes_per_cycle": MACHINE.hbm_bytes_per_cycle,
        "hbm_latency": MACHINE.hbm_latency,
        "weight_rows": MACHINE.weight_rows,
        "link_bytes_per_cycle": MACHINE.link_bytes_per_cycle,
        "link_latency": MACHINE.link_latency,
        "stage": "all",
        "clock_mhz": 500.0,
    }
    done = generate(
        model,
        PROMPT,
        4,
        machine=MACHINE,
        out=path,
        about={"config": config, "stop_ids": []},
        text_of=lambda _, token: f" w{token}",
    )
    result = {
        "matches_golden": done.matches_golden,
        "prompt_tokens": len(PROMPT),
        "tokens": done.tokens,
        "text": "".join(f" w{token}" for token in done.tokens),
        "pieces": [f" w{token}" for token in done.tokens],
        **account(done, model, MACHINE, read_run(path), clock_mhz=500.0),
        "wall_seconds": done.run.seconds,
        "config": config | {"seed": done.run.seed},
    }
    (path / RESULT).write_text(json.dumps(result))
    return path


def at(result, key):
    for name in key.split("."):
        result = result[name]
    return result


def test_the_result_is_as_the_schema_says(folder):
    result = read_run(folder).result
    valid(result, "generate")
    broken = {key: value for key, value in result.items() if key != "ttft_cycles"}
    with pytest.raises(jsonschema.ValidationError, match="'ttft_cycles' is a required property"):
        valid(broken, "generate")


def test_operations_sum_to_the_run(folder):
    result = read_run(folder).result
    rows = operation_rows(result)
    decode = [row for row in rows if row["panel"] == "decode"]
    assert sum(row["cycles"] for row in decode) == result["decode"]["cycles"]
    assert sum(row["macs"] for row in decode) == result["decode"]["macs"]
    for cause, count in result["decode"]["cycles_by_cause"].items():
        assert sum(row["cycles_by_cause"][cause] for row in decode) == count
    for level in ("sram_read", "sram_write", "fabric_hops"):
        assert sum(row["bytes"][level] for row in decode) == result["decode"]["bytes"][level]


def test_layers_of_decode_are_their_operations(folder):
    result = read_run(folder).result
    layers, tiles = result["decode"]["layers"], 4
    assert [layer["layer"] for layer in layers] == [0, 1]
    inner = [o for o in result["decode"]["operations"] if o["layer"] is not None]
    for name in ("cycles", "macs"):
        assert sum(layer[name] for layer in layers) == sum(o[name] for o in inner)
    for layer in layers:
        assert sum(layer["cycles_by_cause"].values()) == tiles * layer["cycles"]
        assert layer["mac_utilization"] == layer["macs"] / (8 * tiles * layer["cycles"])
    (found,) = [f for f in findings(result) if "layers of decode" in f.question]
    use = sum(layer["macs"] for layer in layers) / (32 * sum(layer["cycles"] for layer in layers))
    assert f"multipliers do {use:.0%} of their peak" in found.answer


def test_figures_are_equal_in_terminal_html_csv_and_json(folder):
    run = read_run(folder)
    result = run.result
    page = html_report(run)
    figures = re.findall(r'data-key="([^"]+)" data-value="([^"]+)"[^>]*>([^<]*)', page)
    assert len(figures) > 40
    keys = {key for key, _, _ in figures}
    assert {"ttft_cycles", "prefill.cycles", "decode.cycles", "link.bytes.link"} <= keys
    for key, value, _ in figures:
        if value != "None":
            assert float(value) == at(result, key), key
    out = io.StringIO()
    print_accounts(result, Console(file=out, width=200))
    for key, value, text in figures:
        if key.endswith(("cycles", "mac_utilization")) and value != "None" and text:
            assert text in out.getvalue(), key
    for level, count in result["bytes"].items():
        if count is not None:
            assert f"{count:,}" in out.getvalue(), level
    table = list(csv.DictReader(io.StringIO(operations_csv(operation_rows(result)))))
    cycles = [int(row["cycles"]) for row in table if row["panel"] == "decode"]
    assert sum(cycles) == result["decode"]["cycles"]


def test_the_page_needs_nothing_else(folder):
    page = html_report(read_run(folder))
    assert len(page) < 5_000_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "A &lt;b&gt;prompt&lt;/b&gt; &amp; more" in page


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not there (Debian: apt install chromium)")
def test_a_browser_shows_it_without_an_error(folder, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html_report(read_run(folder)), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    assert not re.findall(r"CONSOLE.*", done.stderr)
    # What the page's own script makes: buttons, squares, the slider's text.
    shown = html.unescape(done.stdout)
    for text in ("Link occupancy", "Decode, tokens 1 to 3", "What limited prefill?", "Hand-off"):
        assert text.lower() in shown.lower(), text
    assert shown.count("translate(") >= MACHINE.mesh[0] * MACHINE.mesh[1]


@pytest.mark.parametrize("kept", ["loading", "prefill", "decode"])
def test_a_run_that_was_cut_off_says_so(folder, tmp_path, kept):
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / RESULT).unlink()
    lines = (cut / EVENTS).read_text().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    end = {
        "loading": 1,
        "prefill": kinds.index("frame_sent") + 3,
        "decode": kinds.index("token") + 2,
    }
    (cut / EVENTS).write_text("".join(lines[: end[kept]]) + lines[end[kept]][:10])
    samples = (cut / "mesh.u32").read_bytes()
    (cut / "mesh.u32").write_bytes(samples[: len(samples) // 3 + 1])
    page = html_report(read_run(cut))
    assert "This report is partial." in page
    assert f"cut off in {kept}" in page


def test_comparison_names_what_changed(folder):
    before = read_run(folder).result
    assert all(c["before"] == c["after"] for c in compare(before, before)["figures"].values())
    after = json.loads(json.dumps(before))
    after["decode"]["operations"][3]["cycles"] += 40
    after["decode"]["cycles"] += 40
    after["config"]["mesh"] = "4x4"
    changes = compare(before, after)
    valid(changes, "comparison")
    assert changes["config"] == {"mesh": ["2x2", "4x4"]}
    cycles = before["decode"]["cycles"]
    assert changes["figures"]["decode.cycles"]["after"] == cycles + 40
    changed = changes["operations"][0]
    assert changed["operation"] == before["decode"]["operations"][3]["operation"]
    assert changed["after"] > changed["before"]
