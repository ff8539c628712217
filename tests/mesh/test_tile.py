# SPDX-License-Identifier: BSD-2-Clause
"""A tile: every operation against the golden model, tasks, and where its cycles go."""

from diptych.mesh.core import CAUSES
from diptych.mesh.tile import Tile
from diptych_sim.engine.simulate import simulate

PUBLIC = [("tile.core", f"count_{cause}") for cause in CAUSES]


def test_programs():
    ran = simulate(Tile(), name="tile", test_module="diptych_tb.mesh.tile", public=PUBLIC)
    assert ran.tests == 39
