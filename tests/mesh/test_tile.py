# SPDX-License-Identifier: BSD-2-Clause
"""A tile: every operation against the golden model, tasks, engines beside each other, causes.

Mutations that were tried by hand, each seen to fail: TRANSMIT that reads the word again that it has
sent, or sends at once with SEND; a fence that does not wait for it; received words that do not wait
while another one writes; a data task that takes control wavelets.
"""

import pytest

from diptych.mesh.core import CAUSES
from diptych.mesh.tile import Tile
from diptych_sim.engine.simulate import simulate

PUBLIC = [("tile.core", f"count_{cause}") for cause in CAUSES]


@pytest.mark.parametrize(
    ("module", "tests"), [("tile", 36), ("tile_engines", 11), ("tile_tasks", 3)]
)
def test_programs(module, tests):
    ran = simulate(Tile, name="tile", test_module=f"diptych_tb.mesh.{module}", public=PUBLIC)
    assert ran.tests == tests
