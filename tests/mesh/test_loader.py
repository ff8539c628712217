# SPDX-License-Identifier: BSD-2-Clause
"""The loader: every kind of packet, with idle words and an SRAM that waits.

Mutations that were tried by hand, each seen to fail: the last column left out; a BYTES step of 8
bits; the half of a word by the wrong address bit; a word taken that the SRAM did not; a task that
starts before its argument was written.
"""

from diptych.mesh.loader import Loader
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_carries_out_packets():
    ran = simulate(
        Loader, name="loader", test_module="diptych_tb.mesh.loader", options=RANDOM_START
    )
    assert_ran(ran, "carries_out_packets", "takes_a_word_a_cycle")
