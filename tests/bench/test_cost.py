# SPDX-License-Identifier: BSD-2-Clause
"""The bench of the cost models: what it draws, and its errors on a few runs.

Planted in the cost model of a tile, and seen to fail: a STORE that waits for no other writer, results
that do not wait for the receiver's or for credits, rows without conflicts, RECEIVEs that wait for later results, a hop that
takes a cycle more, and a start one cycle later.
"""

import json
import random
from dataclasses import replace

import pytest

from diptych.config import MachineConfig
from diptych_sim.bench import cost
from diptych_sim.bench.cost import KINDS, Error, array_errors, mesh_errors, summary
from diptych_sim.bench.random_cases import Case, random_case
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.cost.tile_clock import ways
from diptych_sim.llm.model import ModelConfig
from support.command import command
from support.result_schema import valid
from support.tile_sizes import LARGE_TILE

SMALL = Case(
    config=ModelConfig(
        dim=40, hidden=52, layers=2, heads=4, kv_heads=2, head_width=8, vocab=70, context=128
    ),
    prompt=7,
    tokens=3,
    batch=2,
)

HEADS = {"kv_heads": 4, "head_width": 32}


def test_predicts_the_array_to_the_byte():
    cases = [SMALL, replace(SMALL, prompt=20)]
    errors = list(array_errors(MachineConfig(array=(8, 8)), cases, 1))
    assert [error.kind for error in errors] == list(KINDS[:2]) * 2
    for error in errors:
        assert error.bytes_exact
        assert abs(error.error) < 0.01, error


@pytest.mark.parametrize(
    ("mesh", "changes", "within"),
    [
        ((2, 2), {}, 0.005),
        ((4, 4), {}, 0.005),
        ((3, 4), {"batch": 1, "prompt": 3}, 0.015),
        # Contexts of six heads are longer than what the vector pipe holds.
        ((2, 3), {"batch": 1, "config": HEADS | {"heads": 16}}, 0.005),
        # Columns share heads.
        ((4, 16), {"config": HEADS | {"kv_heads": 2}}, 0.006),
        # Writes of receiver and vector pipe meet, and RECEIVEs wait for each other.
        ((4, 4), {"batch": 3, "config": HEADS}, 0.005),
    ],
)
def test_predicts_the_mesh(mesh, changes, within):
    machine = MachineConfig(mesh=mesh, **LARGE_TILE)
    shape = replace(SMALL.config, **changes.get("config", {}))
    errors = list(mesh_errors(machine, replace(SMALL, **changes | {"config": shape}), 1))
    assert [error.kind for error in errors] == list(KINDS[2:])
    for error in errors:
        assert error.bytes_exact, error
        assert abs(error.error) < within, error


def test_ways_of_reductions():
    """Hops to the middle and back, and two cycles; the middle of 8 is the fifth, of 5 the third."""
    found = ways(8, 5, 4)
    assert {found[c] for c in (Color.COLUMN_ADD, Color.COLUMN_MAX)} == {2 * 4 + 2}
    assert {found[c] for c in (Color.ROW_ADD, Color.ROW_MAX)} == {2 * 2 + 2}
    assert {found[c] for c in (Color.GROUP_ADD, Color.GROUP_MAX)} == {2 * 2 + 2}


def test_draws_the_same_cases_again():
    draws = [[random_case(random.Random(7)) for _ in range(3)] for _ in range(2)]
    assert draws[0] == draws[1]


def error(predicted: int) -> Error:
    return Error(
        kind=KINDS[0],
        machine="",
        words="",
        predicted=predicted,
        measured=1000,
        bytes_exact=predicted != 1100,
    )


def test_the_result_has_every_run(capsys, monkeypatch):
    found = [error(1000 + n) for n in (0, -10, 100)]
    monkeypatch.setattr(cost, "run", lambda *_: list(found))
    monkeypatch.setenv("DIPTYCH_SEED", "7")
    status, out, err = command(capsys, monkeypatch, "bench", "cost", "--json", "-")
    assert status == 0
    result = json.loads(out)
    valid(result, "bench")
    assert result["cost"]["seed"] == 7
    assert [run["error"] for run in result["cost"]["runs"]] == pytest.approx([0.1, -0.01, 0])
    assert result["cost"]["kinds"] == summary(found)
    assert "+10.0% (1,100 for 1,000)" in err


def test_summary_of_errors():
    kind, whole = summary([error(1000 + n) for n in (0, -10, 100)])
    assert kind | {"kind": "all"} == whole
    assert whole["median"] == pytest.approx(0.01)
    assert whole["worst"] == pytest.approx(0.1)
    assert whole["runs"] == 3
    assert whole["bytes_exact"] == 2
