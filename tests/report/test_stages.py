# SPDX-License-Identifier: BSD-2-Clause
"""Reports of several prompts at once, of prefill alone and of decode alone.

Mutations tried by hand and seen to fail: frames of different prompts taken for one; rounds that end
with a token of one sequence; cycles shown as MACs in the heat map.
"""

import csv

import pytest

from diptych_sim.report.compare import compare
from diptych_sim.report.derived import write_derived
from diptych_sim.report.findings import findings
from diptych_sim.report.frames import link_frames
from diptych_sim.report.heat import heat_frames
from diptych_sim.report.html import html_report
from diptych_sim.report.operations import operation_rows
from support.result_schema import valid
from support.run_folders import result_of, write_run


def check(run):
    """Check what holds for every complete run; return its page."""
    result = result_of(run)
    valid(result, "generate")
    derived = write_derived(run)
    rows = operation_rows(result)
    with (run.path / "operations.csv").open(encoding="utf-8") as file:
        assert [row["operation"] for row in csv.DictReader(file)] == [r["operation"] for r in rows]
    assert derived[0].stat().st_size > 500
    assert all(c["before"] == c["after"] for c in compare(result, result)["figures"].values())
    return html_report(run)


def frames_of(run):
    """Return the frames of the heat map."""
    heat = heat_frames(run)
    assert heat is not None
    return heat["frames"]


def sums(run):
    """Check that operations of decode sum to the whole."""
    decode = result_of(run)["decode"]
    rows = [row for row in operation_rows(result_of(run)) if row["panel"] == "decode"]
    assert sum(row["cycles"] for row in rows) == decode["cycles"]
    assert sum(row["macs"] for row in rows) == decode["macs"]
    for cause, count in decode["cycles_by_cause"].items():
        assert sum(row["cycles_by_cause"][cause] for row in rows) == count


@pytest.mark.slow
def test_two_prompts_that_end_apart(tmp_path):
    run = write_run(tmp_path, lengths=(9, 4), tokens=(4, 2))
    page = check(run)
    sums(run)
    assert [event["ends"] for event in run.all("token")] == [False, True, False, True, True, True]
    assert all(row["operation"] for row in operation_rows(result_of(run)))
    assert "Another" in page
    assert "A &lt;b&gt;prompt&lt;/b&gt; &amp; more" in page
    frames = link_frames(run)
    assert len(frames) == 2 * 2 * (9 + 4) + 2
    assert [frame["prompt"] for frame in frames[-2:]] == [0, 1]
    cycles = run.round_cycles
    titles = {frame["title"]: frame for frame in frames_of(run)}
    assert titles["Decode, rounds 1 to 3"]["end"] == cycles[-1] - run.all("started")[0]["cycle"]
    layers = [event["layer"] for event in run.all("layer")]
    assert layers == [0, 1]


@pytest.mark.slow
def test_prefill_alone(tmp_path):
    run = write_run(tmp_path, tokens=(1,), stage="prefill")
    page = check(run)
    result = result_of(run)
    assert result["decode"] is None
    questions = [item.question for item in findings(result)]
    assert questions == ["What limited prefill?", "Did the hand-off cost time?"]
    assert 'id="prefill_roofline"' in page
    assert 'id="decode_roofline"' not in page


@pytest.mark.parametrize("engine", ["verilator", "lanes"])
def test_decode_alone(tmp_path, engine):
    run = write_run(tmp_path, tokens=(4,), stage="decode", engine=engine)
    page = check(run)
    result = result_of(run)
    assert result["prefill"] is None
    assert result["ttft_cycles"] is None
    tokens = run.all("token")
    assert result["cycles"] == tokens[-1]["cycle"] - tokens[0]["cycle"]
    assert sum(result["cycles_by_cause"].values()) == result["cycles"]
    questions = [item.question for item in findings(result)]
    assert questions[0] == "What limited decode?"
    assert questions[-1] == "Which tile was busiest?"
    assert '<section id="prefill">' not in page
    if engine == "verilator":
        sums(run)
    frames = frames_of(run)
    assert frames[0]["end"] - frames[0]["start"] == result["cycles"]
    assert sum(frames[0]["macs"]) == result["decode"]["macs"]


@pytest.mark.slow
def test_a_run_without_a_trace_has_what_counters_say(tmp_path):
    run = write_run(tmp_path, tokens=(2,), stage="decode", trace=False)
    page = check(run)
    assert not list(tmp_path.glob("*.u32"))
    assert run.start["plan"] is None
    (frame,) = frames_of(run)
    assert sum(frame["macs"]) == result_of(run)["decode"]["macs"]
    assert 'id="decode_roofline"' in page
    assert [row for row in operation_rows(result_of(run)) if row["panel"] == "decode"] == []
