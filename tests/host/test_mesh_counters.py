# SPDX-License-Identifier: BSD-2-Clause
"""Counters of all tiles of a mesh on lanes, read at once, are those that are read one by one.

Mutations that were tried by hand, and fail: cores' and routers' counters exchanged; rows of counters
instead of rows of tiles; tiles that are busy in all or none.
"""

from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.signal_handles import lane_tiles
from diptych_sim.host.mesh_counters import LaneCounters, MeshCounters
from support.mesh_jobs import decode_job

MESH = (2, 2)


def test_all_at_once_is_as_one_by_one():
    with LaneMesh(*MESH) as mesh:
        mesh.reset()
        mesh.feed(decode_job(MESH)[0])
        at_once, one_by_one = LaneCounters(mesh), MeshCounters(lane_tiles(mesh))
        seen = set()
        for step in range(6000):
            mesh.run(1)
            assert at_once.busy() == one_by_one.busy()
            busy = mesh.register("core.watch_busy").mean()
            seen.add("none" if busy == 0 else "all" if busy == 1 else "some")
            if step % 150 == 0:
                assert at_once.read_tiles() == one_by_one.read_tiles()
                assert sorted(at_once.progress()) == sorted(one_by_one.progress())
        assert seen == {"none", "some", "all"}
        assert len({tuple(tile.values()) for tile in one_by_one.read_tiles()}) > 1
