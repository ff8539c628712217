# SPDX-License-Identifier: BSD-2-Clause
"""Each phase on each panel, in RTL, and requests in three ways.

Planted, and seen to fail: a token of the prompt that is the one before, on the mesh.
"""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from diptych.config import MachineConfig
from diptych_sim.account.quadrants import border_points, measured_rows, quadrants_result
from diptych_sim.account.requests import account_mesh_request
from diptych_sim.compiler.decode.placement import UnsupportedModelError
from diptych_sim.cost.requests import RequestCosts
from diptych_sim.report.quadrants import print_quadrants
from diptych_sim.report.quadrants_page import quadrants_page
from diptych_sim.run.mesh_request import mesh_request
from diptych_sim.run.quadrants import (
    array_memory,
    equal_machine,
    measure_point,
    weight_bandwidths,
)
from support.random_model import TINY, random_model
from support.result_schema import valid
from support.tile_sizes import LARGE_TILE

MODEL = random_model(TINY, 3)
MACHINE = MachineConfig(array=(8, 8), mesh=(2, 2))
LENGTH, TOKENS = 9, 4


def prompts(count, length=LENGTH):
    rng = np.random.default_rng(2)
    return [rng.integers(0, TINY.vocab, length).tolist() for _ in range(count)]


@pytest.fixture(scope="module")
def point():
    return measure_point(MODEL, prompts(1), TOKENS, machine=MACHINE, engine="lanes")


@pytest.fixture(scope="module")
def result(point):
    accounts = quadrants_result(point, clock_mhz=1000.0)
    costs = RequestCosts(MODEL, MACHINE, LENGTH + TOKENS)
    border = border_points(costs, prompts=(1, LENGTH), tokens=(1, TOKENS), batches=(1,), links=(4,))
    measured = measured_rows(point, accounts["requests"])
    for row in measured:
        row["predicted"] = ""
    config = accounts["quadrants"]["prefill_array"]["config"] | {
        "model": "random",
        "batch": 1,
        "prompt_tokens": LENGTH,
        "tokens": TOKENS,
    }
    return accounts | {
        "matches_golden": point.difference is None,
        "border": border,
        "measured": measured,
        "wall_seconds": 1.0,
        "config": config,
    }


def test_every_way_equals_the_golden_model(point):
    assert point.difference is None
    assert point.array.tokens == point.mesh.tokens == [point.split.tokens]
    _, compared = point.array.compared
    positions = LENGTH + TOKENS - 1
    assert compared["kv_end"]["bytes"] == TINY.layers * positions * 3 * TINY.kv_dim
    assert point.mesh.comparison.compared["final_norms"] == TOKENS


def test_a_byte_of_the_kv_cache_that_differs_is_named(point):
    kv = point.array.program.kv
    at = kv.at(1, 0, LENGTH) + 1
    broken = bytearray(point.array.hbm)
    broken[at] ^= 1
    found = replace(point.array, hbm=bytes(broken)).difference
    assert found is not None
    assert f"address {at:#x}" in found


def test_the_result_is_as_the_schema_says(result):
    valid(result, "quadrants")
    quadrants, requests = result["quadrants"], result["requests"]
    for phase in ("array", "mesh"):
        request = requests[phase]
        prefill, decode = quadrants[f"prefill_{phase}"], quadrants[f"decode_{phase}"]
        assert request["macs"] == prefill["macs"] + decode["macs"]
        assert abs(request["ttft_cycles"] - prefill["cycles"]) <= 2
        assert abs(request["cycles"] - prefill["cycles"] - decode["cycles"]) <= 2
    # The array alone keeps its KV cache in HBM, split ways use the link, late or early.
    assert requests["array"]["bytes"]["hbm_write"] == 64 * TINY.layers * (LENGTH + TOKENS - 1)
    # Of a model as small as this, the link may have nothing left to hide.
    assert requests["split"]["ttft_cycles"] <= requests["split_serial"]["ttft_cycles"]
    assert requests["split"]["bytes"]["link"] == requests["split_serial"]["bytes"]["link"]


def test_costs_are_near_what_was_measured(result):
    for part in result["quadrants"].values():
        assert part["predicted_cycles"] == pytest.approx(part["cycles"], rel=0.03)
    for row in result["measured"]:
        (near,) = (
            point
            for point in result["border"]
            if (point["prompt_tokens"], point["tokens"]) == (LENGTH, row["tokens"])
        )
        for way, cycles in row["cycles"].items():
            # The hand-off of a model this small is most of what its layers take, and is not a program's.
            limit = 0.06 if way == "split" else 0.03
            assert near["cycles"][way] == pytest.approx(cycles, rel=limit)


def test_the_terminal_and_the_page_have_the_ratio(result):
    console = Console(width=80, record=True)
    print_quadrants(console, result)
    sentence = f"decode on the mesh beats decode on the array by {result['decode_ratio']:.2f}"
    assert sentence in console.export_text()
    page = quadrants_page(result)
    assert sentence in page
    assert page.count("<svg") == 1


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 2), (3, 6)])
def test_the_mesh_reads_prompts_of_any_length(count, length):
    machine = replace(MACHINE, **LARGE_TILE)
    done = mesh_request(MODEL, prompts(count, length), 3, machine=machine, engine="lanes")
    assert done.difference is None
    accounts = account_mesh_request(done)
    assert accounts["prefill"]["tokens"] == count
    assert accounts["decode"]["tokens"] == 2 * count


def test_prompts_that_the_mesh_reads_together_have_one_length():
    with pytest.raises(UnsupportedModelError, match="must have one length, not \\[1, 2\\]"):
        mesh_request(MODEL, [[1], [1, 2]], 2, machine=MACHINE, engine="lanes")


@pytest.mark.parametrize(
    ("array", "mesh", "expected"),
    [
        (None, None, ((16, 32), (8, 8))),
        (None, (4, 8), ((16, 16), (4, 8))),
        ((16, 16), None, ((16, 16), (4, 8))),
        ((8, 16), (4, 4), ((8, 16), (4, 4))),
    ],
)
def test_panels_have_equal_macs_and_memory(array, mesh, expected):
    machine = equal_machine(MachineConfig(), array=array, mesh=mesh)
    assert (machine.array, machine.mesh) == expected
    assert machine.pes == 8 * machine.tiles
    if machine.sram_bytes < 65536:
        share = array_memory(machine.array) - machine.tiles * machine.sram_bytes
        assert 0 <= share < 256 * machine.tiles
    assert weight_bandwidths(machine)[1] == 8 * machine.tiles
    assert weight_bandwidths(machine)[0] <= machine.hbm_bytes_per_cycle
