# SPDX-License-Identifier: BSD-2-Clause
"""The arbiter of reads: to each its beats, and no request that changes before it is taken.

Mutations that were tried by hand, each seen to fail: a request that is not kept until it is taken;
``ready`` of the wrong manager.
"""

from diptych.memory.arbiter import ReadArbiter
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_gives_each_its_beats():
    ran = simulate(
        ReadArbiter,
        name="read_arbiter",
        test_module="diptych_tb.memory.arbiter",
        options=RANDOM_START,
    )
    assert_ran(ran, "gives_each_its_beats")
