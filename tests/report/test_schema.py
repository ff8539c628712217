# SPDX-License-Identifier: BSD-2-Clause
"""Results of the other commands, as ``--json`` writes them, are as the published schema says."""

import copy
import json
import sys

import jsonschema
import pytest

from diptych_sim import cli
from support.result_schema import SCHEMA, valid

COMMANDS = {
    "gemm": "gemm 9 8 10 --array 8x8 --bias",
    "mesh_gemm": "gemm 24 24 24 --mesh 3x3",
    "gemv": "gemv 40 7 --mesh 2x2 --engine lanes",
    "collective": "collective reduce --mesh 3x5 --words 6 --algorithm tree",
    "project": "project --prefill trn2 --decode wse3",
    "sweep": "sweep --array 8x8,16x16 --mesh 8x8",
    "serve_ratios": "serve --prefill trn2 --decode wse3 --rate 1 --requests 20 --best-of 3",
    "serve": "serve --prefill trn2 --decode wse3 --rate 1 --requests 20 --tokens 8",
}


@pytest.mark.parametrize(
    "kind",
    # It needs a build of its own.
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "gemm")) for kind in COMMANDS],
)
def test_results_are_as_the_schema_says(kind, monkeypatch, tmp_path):
    path = tmp_path / "result.json"
    words = [*COMMANDS[kind].split(), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["diptych", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    result = json.loads(path.read_text())
    valid(result, kind)
    if kind == "gemm":
        assert result["macs"] == 9 * 8 * 10
        assert result["observed"]["macs"] == 9 * 8 * 16  # the array's columns are never fewer
        assert all(count >= result["cycles"] for count in list(result["observed"].values())[:-1])
    for key in SCHEMA["$defs"][kind]["required"]:
        broken = copy.deepcopy(result)
        del broken[key]
        with pytest.raises(jsonschema.ValidationError, match=f"'{key}' is a required property"):
            valid(broken, kind)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(COMMANDS) | {"generate", "comparison", "result"} <= set(SCHEMA["$defs"])
