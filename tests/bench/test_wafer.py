# SPDX-License-Identifier: BSD-2-Clause
"""The operations of a wafer, on a mesh of few tiles: routes that work, results that are NumPy's."""

import pytest

from diptych_sim.bench.wafer import run_wafer
from diptych_sim.compiler.mesh_kernels.wafer import compile_wafer, route_table
from diptych_sim.compiler.tile.routes import check_routes
from diptych_sim.engine.lanes.mesh import LaneMesh


@pytest.mark.parametrize("mesh", [(1, 2), (2, 2), (3, 4), (7, 9), (8, 8)])
def test_routes_contradict_nowhere(mesh):
    rows, columns = mesh
    check_routes([[route_table(r, c, *mesh) for c in range(columns)] for r in range(rows)])


def test_results_equal_numpy():
    wafer = compile_wafer(5, 7, 3)
    with LaneMesh(5, 7) as mesh:
        done = list(run_wafer(mesh, wafer))
    assert [operation.matches for operation in done] == [True, True, True]
    # Words and hops, and what tasks need to start and end.
    assert [operation.cycles for operation in done] == [40, 50, 34]
