# SPDX-License-Identifier: BSD-2-Clause
"""The layout change: contexts of every shape, word by word against the compiler's layout.

Mutations that were tried by hand, each seen to fail: slots that wrap at 8; words of a head cut to 4
bits, in addresses or in the place of the low planes.
"""

from diptych.link.layout import LayoutChange
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


def test_every_shape_arrives_at_its_places():
    ran = simulate(
        LayoutChange,
        name="layout_change",
        test_module="diptych_tb.link.layout",
        options=RANDOM_START,
    )
    assert_ran(ran, "limits_arrive_at_their_places", "any_shape_arrives_at_its_places")
