# SPDX-License-Identifier: BSD-2-Clause
"""A tile: every operation against the golden model, tasks, and where its cycles go.

Mutations that were seen to fail: an instruction that waits for the one before to drain; a word of X
that is kept in the wrong slot; sums of the row before; a control wavelet that starts a data task.
"""

import pytest

from diptych.mesh.core import CAUSES
from diptych.mesh.tile import Tile
from diptych_sim.engine.simulate import simulate

PUBLIC = [("tile.core", f"count_{cause}") for cause in CAUSES]


@pytest.mark.parametrize(("module", "tests"), [("tile", 39), ("tile_engines", 9)])
def test_programs(module, tests):
    ran = simulate(Tile(), name="tile", test_module=f"diptych_tb.mesh.{module}", public=PUBLIC)
    assert ran.tests == tests
