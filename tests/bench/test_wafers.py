# SPDX-License-Identifier: BSD-2-Clause
"""Layers on wafers: the cost model beside RTL, the fastest part, and the form of the result.

Mutations that were tried by hand, each seen to fail: a layer with the token around it; the slowest
part for the fastest; a layer measured at the middle tile, where results come first.
"""

from itertools import pairwise

import pytest

from diptych_sim.bench.wafers import PUBLISHED, compared, scale_law
from diptych_sim.cost.layer import fastest_part, layer_cost
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.models.shape import config_of
from support.result_schema import valid

SMOLLM2 = config_of(load_shape("smollm2-135m"), 1024)
WITHIN = 0.005
"""Of a predicted layer, of the cycles in RTL."""


@pytest.mark.slow
def test_the_law_is_that_of_rtl_and_turns_where_tiles_become_many():
    law = list(scale_law("smollm2-135m", (8, 32, 64, 512), position=100, rtl_tiles=1024))
    assert law[0]["predicted_cycles"] is law[0]["rtl_cycles"] is None
    measured, predicted = law[1]["rtl_cycles"], law[1]["predicted_cycles"]
    assert abs(predicted - measured) <= WITHIN * measured
    assert sum(part["cycles"] for part in law[1]["operations"]) == measured
    assert [row["rtl_cycles"] for row in law[2:]] == [None, None]
    assert law[1]["predicted_cycles"] > law[2]["predicted_cycles"] < law[3]["predicted_cycles"]
    assert all(row["bound_cycles"] <= row["predicted_cycles"] for row in law[1:])
    result = {"wafers": {"published": [], "scale_law": law, "sram_bytes": 49152}}
    valid(result, "bench")


def test_the_fastest_part_is_faster_than_its_neighbors():
    at = {"position": 100, "sram_bytes": 49152}
    part = fastest_part(SMOLLM2, (128, 250), **at)
    assert part is not None
    rows, columns = part.mesh
    assert rows % 8 == 0
    assert columns % 8 == 0
    assert 16 <= rows < 128
    here = layer_cost(SMOLLM2, rows, columns, **at)
    assert here is not None
    assert here.cycles == part.cycles
    others = [(rows + n, columns) for n in (-8, 8)] + [(rows, columns + n) for n in (-8, 8)]
    for other in (*others, (128, 128), (128, 250)):
        cost = layer_cost(SMOLLM2, *other, **at)
        assert cost is None or cost.cycles >= part.cycles


def test_no_part_holds_what_the_mesh_does_not():
    assert fastest_part(SMOLLM2, (8, 8), position=100, sram_bytes=49152) is None
    whole = fastest_part(SMOLLM2, (20, 23), position=100, sram_bytes=49152)
    assert whole is not None
    assert whole.mesh == (20, 23)


def test_published_layers_stand_beside_ours():
    rows = list(compared(PUBLISHED[2:4]))
    assert [row["position"] for row in rows] == [512, 2048]
    for row in rows:
        assert row["bound_cycles"] < row["fastest_part_cycles"] <= row["predicted_cycles"]
        assert row["predicted_cycles"] < row["published_cycles"]
    for before, after in pairwise(rows):
        assert before["predicted_cycles"] <= after["predicted_cycles"]
    valid({"wafers": {"published": rows, "scale_law": [], "sram_bytes": 49152}}, "bench")
