# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Credit counters: none is lost, none is used twice, and control wavelets drain the buffer."""

from functools import partial

import pytest

from diptych.mesh.credits import Credits
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize("depth", [4, 8])
def test_counts_what_the_receiver_has_room_for(depth):
    ran = simulate(
        partial(Credits, colors=5, depth=depth),
        name="credits",
        test_module="diptych_tb.mesh.credits",
        options=RANDOM_START,
        env={"DUT_COLORS": 5, "DUT_DEPTH": depth},
    )
    assert_ran(ran, "counts_what_the_receiver_has_room_for")


def test_refuses_other_depths():
    with pytest.raises(ValueError, match=r"^Buffer depth must be a power of two from 4 on, not 6$"):
        Credits(colors=5, depth=6)
