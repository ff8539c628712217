# SPDX-License-Identifier: BSD-2-Clause
"""The engine that hands off: keys, values and the token, whatever the lines and pauses.

Mutations that were tried by hand, each seen to fail: no low plane; a line kept where the next is
due; ``last`` in each plane.
"""

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from diptych.systolic.dma_store import StoreEngine
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.engine.simulate import simulate


@pytest.mark.parametrize("line", [4, 16, 32])
def test_hands_off_what_it_reads(line):
    sizes = VectorSizes(lanes=4, line=line, scratchpad=2**13)
    ran = simulate(
        StoreEngine(sizes, line_shape=data.ArrayLayout(signed(8), line)),
        name=f"store_{line}",
        test_module="diptych_tb.systolic.store",
        env={"DUT_LINE": line},
    )
    assert ran.tests == 4
