# SPDX-License-Identifier: BSD-2-Clause
"""The mesh: neighbors are wired to each other, a hop takes a cycle, nothing is lost on the way.

Mutations that were tried by hand, each seen to fail: every tile in column 0; an edge in the
wrong place.
"""

from functools import partial

import pytest

from diptych.mesh.mesh import Mesh
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.simulate import simulate
from support.testbench import assert_ran


@pytest.mark.parametrize("size", [(2, 3), (3, 1)])
def test_paths_deliver_in_order(size):
    ran = simulate(
        partial(Mesh, *size, sram_bytes=256, program_depth=16),
        name=f"mesh_{size[0]}_{size[1]}",
        test_module="diptych_tb.mesh.mesh",
        env={"DUT_SIZE": f"{size[0]}x{size[1]}"},
        options=BuildOptions(shared=("tile",)),
    )
    assert_ran(ran, "paths_deliver_in_order")
