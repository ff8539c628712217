# SPDX-License-Identifier: BSD-2-Clause
"""The command queues: order in and between queues, and programs one after another.

Mutations that were tried by hand, each seen to fail: a request withdrawn when the end arrives;
``finished`` with beats under way; semaphores not taken, or signaled at the start; fields
remembered from the program before; the fields of another set; semaphores of 5 bits; 9 commands at a
time; the waits for two engines exchanged.
"""

from diptych.systolic.queues import CommandQueues
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_keeps_the_order():
    ran = simulate(
        CommandQueues,
        name="command_queues",
        test_module="diptych_tb.systolic.queues",
        options=RANDOM_START,
    )
    assert_ran(
        ran,
        "keeps_the_order",
        "counts_semaphores_and_commands",
        "tells_for_which_engine_matrix_waits",
    )
