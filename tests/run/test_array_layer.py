# SPDX-License-Identifier: BSD-2-Clause
"""One layer on the prefill panel: golden, accounted for, and as the cost model says."""

import dataclasses
import json

import pytest

from diptych.config import MachineConfig
from diptych_sim.account.array_layer import account_array_layer
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.array_layer import prompt_cost, prompt_macs
from diptych_sim.cost.layer import layer_macs
from diptych_sim.cost.requests import panel_cost
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.array_layer import run_array_layer
from support.layer_command import run_layer_command, write_config
from support.result_schema import valid

SHAPE = ModelConfig(dim=96, hidden=140, layers=1, heads=6, kv_heads=2, vocab=2, context=2)
MACHINE = MachineConfig(array=(16, 16))


@pytest.fixture(scope="module")
def done():
    return run_array_layer(SHAPE, machine=MACHINE, tokens=70)


def test_it_is_golden(done):
    assert done.difference is None
    _, compared = done.compared
    assert compared["kv_end"]["bytes"] == 2 * 70 * 3 * SHAPE.kv_dim
    # A wrong byte of the second layer's last values, or another token, is seen.
    *_, (at, _) = done.kv.expected([done.cache], [70])
    wrong = bytearray(done.hbm)
    wrong[at] ^= 1
    assert "KV cache in HBM differs" in dataclasses.replace(done, hbm=bytes(wrong)).difference
    assert "token differs" in dataclasses.replace(done, token=done.token ^ 1).difference


def test_cycles_of_operations_are_those_of_the_layer(done):
    account = account_array_layer(done)
    assert sum(each["cycles"] for each in account["operations"]) == account["cycles"]
    assert account["bound_cycles"] <= account["cycles"] < account["program"]["cycles"]
    assert account["macs"] == sum(layer_macs(SHAPE, n) for n in range(70))
    assert sum(account["cycles_by_cause"].values()) == account["cycles"]


def test_the_cost_model_is_near(done):
    program = account_array_layer(done)["program"]
    assert program["predicted_hbm_read"] == program["hbm_read"]
    assert program["predicted_hbm_write"] == program["hbm_write"]
    assert abs(program["predicted_cycles"] / program["cycles"] - 1) < 0.03


def test_cost_of_many_layers_is_near_that_of_a_program_of_so_many():
    shape = dataclasses.replace(SHAPE, vocab=1000, layers=12)
    machine = MachineConfig(array=(16, 16))
    model = random_integers(dataclasses.replace(shape, context=40), 1)
    whole = panel_cost(compile_prefill(model, 16, 16, [0] * 40), machine).predicted_cycles
    cost = prompt_cost(shape, machine, 40)
    assert abs(cost.cycles / whole - 1) < 0.002
    assert 11 * cost.layer_cycles < cost.cycles


def test_products_of_a_prompt():
    queries, keys = SHAPE.q_dim, SHAPE.kv_dim
    weights = SHAPE.dim * (2 * queries + 2 * keys + 3 * SHAPE.hidden)
    assert prompt_macs(SHAPE, 10) == 10 * weights + 2 * queries * 55


def test_the_command(monkeypatch, tmp_path, capsys):
    path, result = tmp_path / "config.json", tmp_path / "result.json"
    write_config(path, 140)
    words = ["--model", str(path), "--array", "16x16", "--tokens", "20", "--json", str(result)]
    code, shown = run_layer_command(words, monkeypatch, capsys)
    assert code == 0, shown.err
    told = json.loads(result.read_text())
    valid(told, "array_layer")
    assert told["whole_model"]["layers"] == 9
    assert "equal the golden model" in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--array", "16x16", "--mesh", "8x8"], "--mesh excludes --array"),
        (["--tokens", "8"], "--tokens requires --array"),
        (["--array", "16x16", "--tokens", "0"], "Tokens (--tokens) must be in range"),
        (["--array", "32x32", "--tokens", "30"], "needs 2243584 scratchpad bytes of the prefill"),
    ],
)
def test_a_mistake_is_one_line(words, message, monkeypatch, capsys):
    code, shown = run_layer_command(["--model", "llama-3-8b", *words], monkeypatch, capsys)
    assert code == 2
    lines = [line for line in shown.err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert message in lines[0]
