# SPDX-License-Identifier: BSD-2-Clause
"""Netlists pass the testbenches of their sources."""

from functools import partial

import pytest

from diptych.mesh.mesh import Mesh
from diptych.mesh.router import Router
from diptych.systolic.array import SystolicArray
from diptych.systolic.vector import VectorUnit
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.simulate import simulate
from diptych_sim.silicon.netlist import with_netlist
from support.testbench import assert_ran

VECTORS = VectorSizes(
    lanes=4, line=4, scratchpad=8192, accumulators=256, vectors=128, parameters=64, rows=8
)
CASES = {
    "router": (
        partial(Router, colors=10),
        "router",
        "mesh.router",
        {"DUT_COLORS": 10, "DUT_POSITIONS": 4, "DUT_HOP": 1},
        "delivers_everything_once_and_in_order",
    ),
    "tile": (
        partial(Mesh, 2, 3, sram_bytes=256, program_depth=16),
        "mesh_2_3",
        "mesh.mesh",
        {"DUT_SIZE": "2x3"},
        "paths_deliver_in_order",
    ),
    "processing_row_4": (
        partial(SystolicArray, rows=4, columns=4),
        "array_4_4",
        "systolic.array",
        {"DUT_ROWS": 4, "DUT_COLUMNS": 4, "DUT_WEIGHT_ROWS": 1},
        "sums_are_products",
    ),
    "vector_lane": (
        partial(VectorUnit, VECTORS),
        "vector_4_4",
        "systolic.vector",
        {"DUT_LANES": 4, "DUT_LINE": 4},
        "takes_a_tile_per_cycle",
    ),
}
"""By module: hardware, name of its top, testbench, environment, and a test of it."""


@pytest.mark.slow
@pytest.mark.parametrize("module", CASES)
def test_a_netlist_passes_the_testbench_of_its_source(module):
    hardware, name, testbench, env, test = CASES[module]
    sources = emit_verilog(hardware, name)
    netlist = with_netlist(sources, module, lambda _words: None)
    assert netlist != sources
    ran = simulate(
        netlist,
        name=name,
        test_module=f"diptych_tb.{testbench}",
        env=env,
        public=[(name, "count_*"), (name, "bytes_*")] if module == "vector_lane" else [],
        # Buses of gates seem to be loops, bit by bit they are none.
        options=BuildOptions(
            shared=("tile",) if module == "tile" else (), arguments=("-Wno-UNOPTFLAT",)
        ),
    )
    assert_ran(ran, test)
