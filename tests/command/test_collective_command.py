# SPDX-License-Identifier: BSD-2-Clause
"""Collectives of groups of one tile, and how a simulation that fails is told.

Mutations that were tried by hand, each seen to fail: nothing stored in a group of one tile; the
bound of other groups for it; the log of the simulator printed.
"""

import json

import pytest

from diptych_sim.command.running import Failed, running
from diptych_sim.engine.errors import BuildError, SimulationError
from support.command import command


@pytest.mark.parametrize("algorithm", ["auto", "chain", "tree", "two-phase", "fabric"])
@pytest.mark.parametrize(
    ("operation", "mesh", "over", "least"),
    [
        ("broadcast", "1x1", "mesh", 0),
        ("reduce", "1x1", "mesh", 3),
        ("allreduce", "1x1", "mesh", 3),
        ("reduce", "2x1", "rows", 3),
        ("allreduce", "1x2", "columns", 3),
    ],
)
def test_a_group_of_one_tile_keeps_its_words(
    capsys, monkeypatch, operation, mesh, over, least, algorithm
):
    arguments = ["--mesh", mesh, "--over", over, "--words", "3", "--algorithm", algorithm]
    arguments += ["--engine", "lanes", "--json", "-"]
    status, out, _ = command(capsys, monkeypatch, "collective", operation, *arguments)
    result = json.loads(out)
    assert status == 0
    assert result["matches_golden"]
    assert result["bound_cycles"] == least
    assert result["published_cycles"] is None
    assert result["cycles"] == result["predicted_cycles"] >= least


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            SimulationError("A failed: why; log in x\n  0.00ns INFO cocotb\n@diptych {}"),
            "A failed: ",
        ),
        (
            BuildError("Building a failed:\n%Error: a.v:1: syntax\nmore"),
            "Building a failed: %Error",
        ),
    ],
)
def test_a_step_that_fails_is_told_in_one_line(capsys, error, line):
    with pytest.raises(Failed) as caught, running():
        raise error
    assert caught.value.exit_code == 1
    caught.value.show()
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert "@diptych" not in err
    assert "INFO" not in err
