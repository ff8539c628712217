# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of a run: what must sum, what must agree, and how near the cost model is.

Faults in the hardware that the observers of a run were seen to find, each as an error of
``generate --tokens 1`` that names the counters: causes of the store engine exchanged, products
counted twice, waiting of the link counted as sending; and causes of the load engine exchanged, in a
product.
"""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych.systolic.isa import Queue
from diptych_sim.account.generation import AccountError, account, decode_bound
from diptych_sim.compiler.decode.place import place
from diptych_sim.host.observers.matrix import tiles_of
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model

MODEL = random_model(TINY, 3)
MACHINE = MachineConfig(array=(8, 8), mesh=(2, 2))


@pytest.fixture(scope="module")
def done():
    prompt = np.random.default_rng(2).integers(0, TINY.vocab, 30).tolist()
    return generate(MODEL, [prompt], [3], machine=MACHINE)


def test_causes_sum_and_the_cost_model_is_near(done):
    result = account(done)
    assert sum(result["cycles_by_cause"].values()) == result["cycles"]
    prefill = result["prefill"]
    for causes in prefill["cycles_by_engine"].values():
        assert sum(causes.values()) == prefill["cycles"]
    assert sum(result["link"]["cycles_by_cause"].values()) == result["link"]["cycles"]
    assert prefill["bound_cycles"] <= prefill["cycles"]
    # A model as small as this one waits more often for what the cost model leaves out.
    assert 1 <= prefill["cycles"] / prefill["predicted_cycles"] <= 1.25
    decode = result["decode"]
    assert 0.9 <= decode["cycles"] / decode["predicted_cycles"] <= 1.2
    spread = decode["macs_by_tile"]
    assert 4 * spread["mean"] == decode["macs"]
    assert spread["spread"] <= 0.1
    assert prefill["bytes"]["hbm_read"] == prefill["predicted_hbm_read"]
    assert result["windows_checked"] >= 3
    observed = result["observed"]
    assert observed.pop("macs") == prefill["macs"]
    assert set(observed) == {"load", "matrix", "vector", "store", "link"}
    assert observed["matrix"] > prefill["cycles"]
    # Not counted: what follows the last command.
    assert min(observed.values()) > 0.8 * prefill["cycles"]
    assert 0 < result["mac_utilization"] < 1


def test_each_cycle_of_the_array_belongs_to_an_operation(done):
    prefill = account(done)["prefill"]
    layers, operations = prefill["layers"], prefill["operations"]
    assert sum(layer["cycles"] for layer in layers) == prefill["cycles"]
    assert [layer["layer"] for layer in layers] == [0, 1, None, None]
    for name in prefill["cycles_by_cause"]:
        parts = sum(layer["cycles_by_cause"].get(name, 0) for layer in layers)
        # What the engine did behind its last row is of no operation.
        behind = ("draining", "waiting_vector", "waiting_link", "idle")
        assert parts == prefill["cycles_by_cause"][name] or name in behind
    for layer in layers[:-1]:
        inner = layer["operations"]
        assert sum(part["cycles"] for part in inner) == layer["cycles"]
        assert sum(layer["cycles_by_cause"].values()) == layer["cycles"]
        assert 0 < layer["mac_utilization"] < 1
    names = [part["operation"] for part in layers[0]["operations"]]
    projections = ["queries", "keys", "values"]
    assert names == [*projections, "scores", "contexts", "output", "gate and up", "down"]
    assert len(operations) == prefill["commands"]
    for engine in ("load", "matrix", "vector", "store"):
        mine = [o for o in operations if o["engine"] == engine]
        assert all(0 <= o["start"] < o["end"] <= prefill["cycles"] for o in mine)
        ends = [o["end"] for o in mine]
        assert ends == sorted(ends)
    read = sum(o["bytes"] for o in operations if o["engine"] == "load")
    words = -(-4 * len(done.prefill.commands.words()) // 64) * 64
    assert read + words == prefill["predicted_hbm_read"]


def test_bounds_are_those_of_all_tiles(done):
    operations = account(done)["prefill"]["operations"]
    bounds = [o["bound_cycles"] for o in operations if o["engine"] == "matrix"]
    expected = [
        sum(
            max(tile.rows, tile.lines)
            for tile in tiles_of({"first": 0, **command.fields}, rows=8, columns=8, weight_rows=1)
        )
        for command in done.prefill.commands.commands
        if command.queue is Queue.MATRIX
    ]
    assert bounds == expected
    assert len(set(bounds)) > 3


def test_a_command_that_was_not_seen_fails(done):
    def change(event):
        event["cycles"]["vector"]["done"].pop()

    message = r"^Engine vector must have done \d+ commands, not \d+$"
    with pytest.raises(AccountError, match=message):
        account(changed(done, change, "commands"))


def test_operations_with_other_macs_fail(done):
    def change(event):
        event["parts"]["prefill.panel.matrix"]["macs"] += 1

    message = r"^Operations must have the counted \d+ MACs, not \d+$"
    with pytest.raises(AccountError, match=message):
        account(changed(done, change))


def changed(done, change, kind="counters"):
    events = copy.deepcopy(done.events)
    for event in events:
        if event["kind"] == kind:
            change(event)
    return replace(done, events=events)


@pytest.mark.parametrize("part", ["matrix", "vector", "load", "store"])
def test_an_engine_whose_causes_do_not_sum_fails(done, part):
    def change(event):
        event["parts"][f"prefill.panel.{part}"]["idle"] += 1

    cycles = next(e["cycle"] for e in done.events if e["kind"] == "counters") - 2
    message = f"Causes of the {part} engine must sum to {cycles} cycles, not {cycles + 1}"
    with pytest.raises(AccountError, match=f"^{re.escape(message)}$"):
        account(changed(done, change))


def test_a_tile_whose_causes_do_not_sum_fails(done):
    def change(event):
        event["tiles"][2]["computing"] += event["index"]

    with pytest.raises(AccountError, match=r"^Causes of tile 2 must sum to \d+ cycles, not \d+$"):
        account(changed(done, change))


@pytest.mark.parametrize(
    ("monitor", "what"),
    [
        ("hbm_beats", "hbm_read bytes"),
        ("hbm_written_beats", "hbm_write bytes"),
        ("link_words", "link bytes"),
    ],
)
def test_a_monitor_that_disagrees_fails(done, monitor, what):
    def change(event):
        event["monitors"][monitor] += 1

    message = rf"^Counter of {what} must agree with the monitor's \d+, not \d+$"
    with pytest.raises(AccountError, match=message):
        account(changed(done, change))


def test_a_link_with_too_few_bytes_fails(done):
    def change(event):
        event["parts"]["link.transmitter"]["link_payload"] -= 4

    with pytest.raises(AccountError, match=r"^Link must carry \d+ bytes, not \d+$"):
        account(changed(done, change))


@pytest.mark.parametrize("mesh", [(2, 3), (5, 4)])
def test_a_norm_by_its_own_row_is_one_way_more_in_the_bound(mesh):
    steady = random_model(TINY, 1, steady=True)
    by_own = replace(
        steady,
        layers=tuple(replace(w, mlp_norm_top=0, next_norm_top=0) for w in steady.layers),
    )
    placement = place(TINY, *mesh, positions=8, sram_bytes=24576)

    def bound(model, positions=8):
        return decode_bound(model, placement, 0, positions=positions)

    assert bound(by_own) - bound(steady) == 2 * TINY.layers * 2 * (mesh[0] // 2)
    # Rows without positions are on no way of attention; without a floor the largest hidden element is.
    reach = placement.positions.reach(1)
    assert bound(steady) - bound(steady, 1) == 4 * TINY.layers * (mesh[0] // 2 - reach)
    free = replace(steady, layers=tuple(replace(w, hidden_floor=0) for w in steady.layers))
    assert bound(free) - bound(steady) == TINY.layers * 2 * (mesh[1] // 2)
