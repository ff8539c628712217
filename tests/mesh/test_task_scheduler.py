# SPDX-License-Identifier: BSD-2-Clause
"""The task scheduler: what is ready starts, and no activation is lost.

Mutations that were tried by hand, each seen to fail: an activation that is lost in the cycle in
which its task starts; active tasks that the reset leaves active.
"""

from functools import partial

from diptych.mesh.tasks import TaskScheduler
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_starts_what_is_ready_and_forgets_nothing():
    ran = simulate(
        partial(TaskScheduler, colors=5),
        name="task_scheduler",
        test_module="diptych_tb.mesh.task_scheduler",
        options=RANDOM_START,
        env={"DUT_COLORS": 5},
    )
    assert_ran(ran, "starts_what_is_ready_and_forgets_nothing")
