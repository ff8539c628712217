# SPDX-License-Identifier: BSD-2-Clause
"""Layers on wafers: the cost model beside RTL, the fastest part, and the form of the result.

Mutations that were tried by hand, each seen to fail: a layer with the token around it; the slowest
part for the fastest.
"""

from itertools import pairwise

from diptych_sim.bench.wafers import PUBLISHED, compared, fastest_part, scale_law
from diptych_sim.cost.layer import layer_cost
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.models.shape import config_of
from support.result_schema import valid

SMOLLM2 = config_of(load_shape("smollm2-135m"), 1024)
WITHIN = 0.05
"""Of a predicted layer, of the cycles in RTL."""


def test_the_law_is_that_of_rtl_and_turns_where_tiles_become_many():
    law = list(scale_law("smollm2-135m", (8, 16, 64, 512), position=100, rtl_tiles=256))
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
    side, cycles = fastest_part(SMOLLM2, (128, 256), 100)
    assert side % 8 == 0
    assert 16 <= side < 128
    for other in (side - 8, side + 8, 128):
        cost = layer_cost(SMOLLM2, other, other, position=100, sram_bytes=49152)
        assert cost is None or cost.cycles >= cycles


def test_published_layers_stand_beside_ours():
    rows = list(compared(PUBLISHED[2:4]))
    assert [row["position"] for row in rows] == [512, 2048]
    for row in rows:
        assert row["bound_cycles"] < row["fastest_part_cycles"] <= row["predicted_cycles"]
        assert row["predicted_cycles"] < row["published_cycles"]
    for before, after in pairwise(rows):
        assert before["predicted_cycles"] <= after["predicted_cycles"]
    valid({"wafers": {"published": rows, "scale_law": [], "sram_bytes": 49152}}, "bench")
