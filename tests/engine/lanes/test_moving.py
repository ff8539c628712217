# SPDX-License-Identifier: BSD-2-Clause
"""Tiles that move to other lanes while they work go on as if they had not.

Mutations that were tried by hand, each seen to fail: bits, elements of bytes, or memories are not
moved; lanes of the old place; host ports, or the cycle, are those of a new mesh.
"""

import numpy as np
import pytest

from diptych_sim.engine.lanes.digest import MeshDigest
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.tiling import Tiling, tile_in_parts, tile_in_rows
from support.mesh_jobs import random_job


def run(mesh, load, moves):
    """Return digests of all tiles in each cycle, memories at the end, and the words that left."""
    with LaneMesh(*mesh) as lanes:
        lanes.reset()
        lanes.feed(load)
        digests, words = [], []
        for tilings in moves:
            for tiling in tilings:
                words += lanes.words()
                load = [row[at:] for row, at in zip(load, lanes.fed(), strict=True)]
                lanes.lay_out(tiling)
                assert lanes.tiling == tiling
                lanes.feed(load)
            digest = MeshDigest(lanes, sorted(lanes.registers()))
            for _ in range(150):
                lanes.run(1)
                digests.append(digest.tiles())
        cycle = lanes.cycle
        memories = {name: found.tolist() for name, found in lanes.memories().items()}
        return np.array(digests), memories, [*words, *lanes.words()], cycle


@pytest.mark.parametrize(("mesh", "seed"), [((3, 5), 1), ((13, 10), 2)])
def test_moved_tiles_go_on(mesh, seed):
    load = random_job(mesh, seed)
    rows, columns = mesh
    wide, near = tile_in_rows(*mesh), tile_in_parts(*mesh)
    moves = [[], [wide], [Tiling(rows, columns, 2, columns)], [near], []]
    still, moved = (run(mesh, load, each) for each in ([[]] * len(moves), moves))
    assert len({digest.tobytes() for digest in still[0]}) > 100  # much happens
    assert (still[0] == moved[0]).all()
    assert still[1:] == moved[1:]


@pytest.mark.parametrize("mesh", [(1, 1), (3, 5), (13, 10), (72, 64), (5, 100), (40, 3)])
def test_each_tile_has_a_lane_of_its_own(mesh):
    tiling = tile_in_rows(*mesh)
    lanes = tiling.all()
    assert len(set(lanes.tolist())) == mesh[0] * mesh[1]
    assert lanes.max() < tiling.lanes
    of_row = lanes[: mesh[1]] // 64
    assert len(set(of_row.tolist())) == -(-mesh[1] // 64)
