# SPDX-License-Identifier: BSD-2-Clause
"""The timeline, asked by Perfetto's own trace processor: it must say what the report says.

Mutations tried by hand and seen to fail: slices of the array that begin when the command was taken;
an arrow to the wrong layer; a repeated frame counted as a new one; rows summed over columns.
"""

from pathlib import Path

import numpy as np
import pytest

from diptych.mesh.core import CAUSES
from diptych_sim.report.operations import operation_rows
from diptych_sim.report.timeline import write_timeline
from diptych_sim.run.folder import RunFolder, Samples
from support.trace_processor import query

START = 1000
MESH = (2, 3)
LAYERS, POSITIONS = 2, 3
PIECES = [[0, "embedding", False], [5, "scores", True], [9, "contexts", True], [12, "best", False]]


def a_run(rng, *, complete=True):
    """Return a small run of two layers, three positions and three tokens, one frame sent twice."""
    events = [
        {
            "kind": "run",
            "mesh": list(MESH),
            "prompt_ids": [[1, 2, 3]],
            "plan": {"pieces": PIECES, "detailed": [1, 2], "reference": 4, "sampled": [0, 1, 2]},
        },
        {"kind": "started", "cycle": START},
    ]
    operations = []
    cycle = 0
    for layer in range(LAYERS):
        for name in ("queries", "keys"):
            took = rng.integers(20, 90)
            causes = {"computing": int(took) - 15, "idle": 15}
            operations += [
                {"layer": layer, "operation": name, "engine": "load"}
                | {"start": cycle, "end": cycle + 130, "bytes": 640},
                {"layer": layer, "operation": name, "engine": "matrix", "macs": 100 * int(took)}
                # It was taken before the array was free, and its last sum comes later.
                | {"start": cycle, "end": cycle + int(took) + 30, "cycles": int(took)}
                | {"cycles_by_cause": causes},
            ]
            cycle += int(took)
    frames = [
        (what, layer, position)
        for layer in range(LAYERS)
        for what in ("keys", "values")
        for position in range(POSITIONS)
    ]
    frames.append(("token", 0, 0))
    sent = []
    for number, (what, layer, position) in enumerate(frames):
        at = START + 100 + 20 * number
        head = {"kind": "frame_sent", "sequence": number, "what": what, "layer": layer}
        head["prompt"] = 0
        sent.append(head | {"position": position, "count": 8, "cycle": at})
        if number == 4:
            sent.append(sent[-1] | {"cycle": at + 7})
        sent += [
            {"kind": f"frame_{step}", "cycle": at + later, "count": number + 1}
            for step, later in (("accepted", 60), ("delivered", 75))
        ]
    events += sent
    first = START + 500
    names = (*CAUSES, "macs")
    cycles, marks = [START, first], {1: [], 2: []}
    events.append(
        {"kind": "token", "index": 0, "sequence": 0, "token": 7, "cycle": first, "text": " a"}
        | {"ends": True}
    )
    at = first
    for token in (1, 2):
        for number in (0, 1, 2, 1, 2, 3):
            marks[token].append([at, number])
            at += int(rng.integers(5, 40))
            cycles.append(at)
        events.append({"kind": "operations", "index": token, "marks": marks[token]})
        events.append(
            {"kind": "token", "index": token, "sequence": 0, "token": 8, "cycle": at, "text": " b"}
            | {"ends": True}
        )
    values = np.zeros((len(cycles), MESH[0] * MESH[1], len(names)), np.int64)
    for index, step in enumerate(np.diff(cycles), start=1):
        for tile in range(MESH[0] * MESH[1]):
            cuts = np.sort(rng.integers(0, step + 1, len(CAUSES) - 1))
            parts = np.diff([0, *map(int, cuts), int(step)])
            values[index, tile] = values[index - 1, tile] + [*parts, 8 * parts[0]]
    mesh = Samples(names, np.array(cycles), values)
    result = {"prefill": {"cycles": cycle, "operations": operations}} if complete else None
    panel = Samples(
        ("prefill.hbm.hbm_read",), np.array([START, START + 64]), np.array([[0], [640]])
    )
    return RunFolder(path=Path(), events=events, result=result, panel=panel, mesh=mesh)


@pytest.fixture(scope="module")
def run():
    return a_run(np.random.default_rng(5))


@pytest.fixture(scope="module")
def tables(run, tmp_path_factory):
    """Answers of the trace processor; starting it takes seconds, so that it starts once."""
    path = tmp_path_factory.mktemp("timeline") / "trace.perfetto-trace"
    write_timeline(run, path)
    layer = "extract_arg(s.arg_set_id, 'debug.layer')"
    causes = ", ".join(f"extract_arg(s.arg_set_id, 'debug.{cause}') as {cause}" for cause in CAUSES)
    asked = {
        "errors": "select name, value from stats where severity = 'error' and value > 0",
        "operations": f"select category, s.name as name, {layer} as layer, sum(dur) as cycles, "
        "count(*) as n, min(ts) as first from slice s group by 1, 2, 3",
        "arrows": "select a.category as source, a.name as what, "
        "extract_arg(a.arg_set_id, 'debug.layer') as layer, b.category as target, "
        "b.name as used, extract_arg(b.arg_set_id, 'debug.layer') as used_layer, "
        "extract_arg(b.arg_set_id, 'debug.round') as round, count(*) as n from flow f "
        "join slice a on f.slice_out = a.id join slice b on f.slice_in = b.id "
        "group by 1, 2, 3, 4, 5, 6, 7",
        "rows": f"select t.name as row, ts, dur, {causes} from slice s "
        "join track t on s.track_id = t.id where category = 'row'",
        "counters": "select t.name as name, ts, value from counter c "
        "join track t on c.track_id = t.id where t.name = 'HBM reads'",
        "tracks": "select name, count(*) as n from track group by name",
    }
    return dict(zip(asked, query(path, *asked.values()), strict=True))


def test_opens_without_errors(tables):
    assert tables["errors"] == []
    names = {row["name"] for row in tables["tracks"]}
    expected = {"tokens", "load", "matrix", "queue of matrix", "frames sent", "operations", "row 1"}
    assert expected <= names


def test_engines_have_the_cycles_of_the_report(run, tables):
    found = {(r["category"], r["name"], r["layer"]): r["cycles"] for r in tables["operations"]}
    rows = operation_rows(run.result)
    assert len(rows) == 8
    for row in rows:
        assert found[row["engine"], row["operation"], row["layer"]] == row["cycles"]
    whole = sum(r["cycles"] for r in tables["operations"] if r["category"] == "matrix")
    assert whole == run.result["prefill"]["cycles"]


def test_decode_is_covered_without_gaps(run, tables):
    tokens = [event["cycle"] for event in run.all("token")]
    tiles = [row for row in tables["operations"] if row["category"] == "tiles"]
    assert sum(row["cycles"] for row in tiles) == tokens[-1] - tokens[0]
    assert {(row["name"], row["layer"], row["n"]) for row in tiles} == {
        ("embedding", -1, 2),
        ("best", -1, 2),
        *((name, layer, 2) for name in ("scores", "contexts") for layer in range(LAYERS)),
    }
    told = [row for row in tables["operations"] if row["category"] == "token"]
    assert sum(row["cycles"] for row in told) == tokens[-1] - START


def test_arrows_lead_from_each_frame_to_its_first_use(tables):
    arrows = {
        (row["what"], row["layer"], row["used"], row["used_layer"], row["round"]): row["n"]
        for row in tables["arrows"]
        if row["target"] == "tiles"
    }
    expected = {("token", 0, "embedding", -1, 1): 1}
    for layer in range(LAYERS):
        expected["keys", layer, "scores", layer, 1] = POSITIONS
        expected["values", layer, "contexts", layer, 1] = POSITIONS
    assert arrows == expected
    hops = [row["n"] for row in tables["arrows"] if row["target"] == "link"]
    assert sum(hops) == 2 * LAYERS * POSITIONS + 1


def test_rows_account_for_each_tile_cycle(run, tables):
    rows = tables["rows"]
    assert len(rows) == MESH[0] * (len(run.mesh.cycles) - 1)
    for row in rows:
        assert sum(row[cause] for cause in CAUSES) == row["dur"] * MESH[1]
    computing = run.mesh.of("computing")
    for index in range(MESH[0]):
        seen = sum(row["computing"] for row in rows if row["row"] == f"row {index}")
        tiles = slice(index * MESH[1], (index + 1) * MESH[1])
        assert seen == (computing[-1] - computing[0])[tiles].sum()


def test_counters_are_rates(tables):
    assert tables["counters"] == [{"name": "HBM reads", "ts": 0, "value": 10.0}]


def test_a_run_that_was_cut_off_has_what_there_is(tmp_path):
    run = a_run(np.random.default_rng(6), complete=False)
    write_timeline(run, tmp_path / "a")
    (count,) = query(tmp_path / "a", "select category, count(*) as n from slice group by 1")
    kinds = {row["category"] for row in count}
    assert kinds == {"token", "link", "tiles", "row"}
