# SPDX-License-Identifier: BSD-2-Clause
"""The command queues: order in and between queues, and programs one after another."""

from diptych.systolic.queues import CommandQueues
from diptych_sim.engine.simulate import simulate


def test_keeps_the_order():
    ran = simulate(CommandQueues(), name="command_queues", test_module="diptych_tb.systolic.queues")
    assert ran.tests == 8
