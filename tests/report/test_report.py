# SPDX-License-Identifier: BSD-2-Clause
"""Reports of a run: figures equal everywhere, no errors in a browser, partial runs, comparison.

Mutations tried by hand and seen to fail: cycles of an operation not added over its commands; causes
left out; layers added together; a cause counted twice in one layer; rounds that begin a cycle late; two
causes exchanged in the timeline; slices a cycle short; causes under each other's names in the tables;
MACs in place of a cause.
"""

import csv
import html
import io
import json
import re
import shutil
import subprocess

import jsonschema
import pytest
from rich.console import Console

from diptych_sim.report.compare import compare
from diptych_sim.report.derived import write_derived
from diptych_sim.report.findings import findings
from diptych_sim.report.html import html_report
from diptych_sim.report.operations import operation_rows
from diptych_sim.report.terminal import print_accounts
from diptych_sim.run.folder import EVENTS, RESULT, read_run
from support.result_schema import valid
from support.run_folders import MACHINE, result_of, write_run
from support.trace_processor import query

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run")).path


def at(result, key):
    for name in key.split("."):
        result = result[name]
    return result


def test_the_result_is_as_the_schema_says(folder):
    result = result_of(read_run(folder))
    valid(result, "generate")
    broken = {key: value for key, value in result.items() if key != "ttft_cycles"}
    with pytest.raises(jsonschema.ValidationError, match="'ttft_cycles' is a required property"):
        valid(broken, "generate")


def test_operations_sum_to_the_run(folder):
    result = result_of(read_run(folder))
    rows = operation_rows(result)
    decode = [row for row in rows if row["panel"] == "decode"]
    assert sum(row["cycles"] for row in decode) == result["decode"]["cycles"]
    assert sum(row["macs"] for row in decode) == result["decode"]["macs"]
    for cause, count in result["decode"]["cycles_by_cause"].items():
        assert sum(row["cycles_by_cause"][cause] for row in decode) == count
    for level in ("sram_read", "sram_write", "fabric_hops"):
        assert sum(row["bytes"][level] for row in decode) == result["decode"]["bytes"][level]


def test_layers_of_decode_are_their_operations(folder):
    result = result_of(read_run(folder))
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


def test_figures_are_equal_in_terminal_html_csv_json_and_perfetto(folder):
    run = read_run(folder)
    trace, *_ = write_derived(run)
    result = result_of(read_run(folder))
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
    with (folder / "operations.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    names = ("engine", "operation", "layer", "cycles", "macs")
    rows = {tuple(row[name] for name in names[:3]): row for row in table}
    assert len(rows) == len(table)
    for panel in ("prefill", "decode"):
        mine = [row for row in table if row["engine"] == {"prefill": "matrix"}.get(panel, "tiles")]
        assert sum(int(row["cycles"]) for row in mine) <= result[panel]["cycles"]
        assert sum(int(row["macs"]) for row in mine) == result[panel]["macs"]
    causes = [*result["prefill"]["cycles_by_cause"]]
    sums = ", ".join(
        f"sum(extract_arg(arg_set_id, 'debug.{cause}')) as {cause}" for cause in causes
    )
    layer = "extract_arg(arg_set_id, 'debug.layer')"
    seen, totals, tokens = query(
        trace,
        f"select category as engine, name as operation, {layer} as layer, sum(dur) as cycles, "
        f"sum(extract_arg(arg_set_id, 'debug.macs')) as macs, {sums} from slice "
        "where category in ('load', 'matrix', 'vector', 'store', 'tiles') group by 1, 2, 3",
        "select category, sum(dur) as cycles from slice group by 1",
        "select dur from slice where category = 'token' order by ts",
    )
    assert len(seen) == len(rows)
    for row in seen:
        number = "" if row["layer"] < 0 else str(row["layer"])
        told = rows[row["engine"], row["operation"], number]
        assert row["cycles"] == int(told["cycles"])
        if row["engine"] == "matrix":
            assert row["macs"] == int(told["macs"])
            for cause in causes:
                assert (row[cause] or 0) == int(told.get(cause) or 0), cause
    cycles = {row["category"]: row["cycles"] for row in totals}
    assert cycles["tiles"] == result["decode"]["cycles"]
    assert cycles["token"] == result["cycles"]
    assert [row["dur"] for row in tokens] == result["token_cycles"]


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
    before = result_of(read_run(folder))
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
