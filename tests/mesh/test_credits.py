# SPDX-License-Identifier: BSD-2-Clause
"""Credit counters: a credit can be used in the cycle in which it comes, and none is lost.

A mutation that was tried by hand, and seen to fail: a credit that is available a cycle later.
"""

from functools import partial

from diptych.mesh.credits import Credits
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_counts_what_the_receiver_has_room_for():
    ran = simulate(
        partial(Credits, colors=5),
        name="credits",
        test_module="diptych_tb.mesh.credits",
        options=RANDOM_START,
        env={"DUT_COLORS": 5},
    )
    assert_ran(ran, "counts_what_the_receiver_has_room_for")
