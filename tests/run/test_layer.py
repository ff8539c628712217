# SPDX-License-Identifier: BSD-2-Clause
"""One layer on a mesh: golden, and as long as a second layer of a model makes its token.

Mutations that were tried by hand, each seen to fail: a layer that ends with its last instruction; a
KV cache of the position before; operations that begin with their first cycle of waiting.
"""

import json
from dataclasses import replace

import pytest

from diptych.config import MachineConfig
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from diptych_sim.run.layer import VOCABULARY, run_layer
from support.layer_command import run_layer_command, write_config
from support.result_schema import valid
from support.tile_sizes import LARGE_TILE

SHAPE = ModelConfig(dim=96, hidden=40, layers=1, heads=6, kv_heads=2, vocab=2, context=2)
BRANCH = 8
"""Cycles that a taken branch and the instructions around it may add."""
MACHINE = MachineConfig(mesh=(3, 4), **LARGE_TILE)


def test_a_layer_is_golden_and_as_long_as_one_more_layer_of_a_model():
    done = run_layer(SHAPE, machine=MACHINE, position=7)
    assert done.difference is None
    assert done.program.placement.split == 2
    assert sum(cycles for _, cycles in done.operations) == done.cycles
    assert done.bound_cycles <= done.cycles
    lengths = []
    for layers in (2, 3):  # with branches for the first norm, which is by its own row
        config = replace(SHAPE, layers=layers, vocab=VOCABULARY, context=8, tied=False)
        whole = generate(
            random_integers(config, 1, steady=True),
            [[1, 2, 3, 4, 5, 6, 7]],
            [2],
            machine=MACHINE,
            stage="decode",
            engine="lanes",
            preloaded=True,
        )
        assert whole.matches_golden
        first, last = (event["cycle"] for event in whole.events if event["kind"] == "token")
        lengths.append(last - first)
    # Where there is a next layer, its branch is taken.
    assert 0 <= lengths[1] - lengths[0] - done.cycles <= BRANCH


def test_the_command_takes_any_config(monkeypatch, tmp_path, capsys):
    path, result = tmp_path / "config.json", tmp_path / "result.json"
    write_config(path, 40)
    words = ["--model", str(path), "--mesh", "3x6", "--position", "7", "--sram-bytes", "24576"]
    code, shown = run_layer_command([*words, "--json", str(result)], monkeypatch, capsys)
    assert code == 0, shown.err
    valid(json.loads(result.read_text()), "one_layer")
    assert "equal the golden model" in shown.out
    # On a larger mesh it takes a part, which is faster than all of it.
    cycles = {}
    for part in ("fastest", "all"):
        words[3] = "20x6"
        code, shown = run_layer_command(
            [*words, "--part", part, "--json", str(result)], monkeypatch, capsys
        )
        assert code == 0, shown.err
        told = json.loads(result.read_text())
        assert told["config"]["mesh"] == "20x6"
        cycles[told["config"]["part"]] = told["cycles"]
    small, large = cycles
    assert large == "20x6"
    assert cycles[small] < cycles[large]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--model", "gpt-oss-20b"], "Model gpt-oss-20b must have dense layers, not 32 experts"),
        (["--model", "llama-3-8b", "--position", "0"], "Position (--position) must be in range"),
        (["--model", "llama-3-8b", "--mesh", "2x2"], "Mesh 2x2 has 49152 bytes of SRAM in a tile"),
    ],
)
def test_a_mistake_is_one_line(words, message, monkeypatch, capsys):
    code, shown = run_layer_command(words, monkeypatch, capsys)
    assert code == 2
    lines = [line for line in shown.err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert message in lines[0]
