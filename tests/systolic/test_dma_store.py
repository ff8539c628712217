# SPDX-License-Identifier: BSD-2-Clause
"""The engine that stores: to the link and to HBM, whatever the lines and pauses.

Mutations that were tried by hand, each seen to fail: no low plane; a line kept where the next is
due; ``last`` in each plane; a row of 63 bytes written as 64; rows that keep the entry of the row before; bursts
across 4 KiB; done before the response, or one response early; biases that go on in the next row;
more bursts, beats or commands than there is room for; reads for nothing; the first chunk of a wide line for all. Of causes:
reading and writing, or sending and waiting, exchanged.
"""

from functools import partial

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from diptych.systolic.dma_store import StoreEngine
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("line", "lanes"),
    [
        (4, 4),
        pytest.param(16, 16, marks=pytest.mark.slow),
        pytest.param(32, 32, marks=pytest.mark.slow),
        (128, 8),
    ],
)
def test_stores_what_it_reads(line, lanes):
    sizes = VectorSizes(lanes=lanes, line=line, scratchpad=2**13, accumulators=256, biases=64)
    ran = simulate(
        partial(
            StoreEngine,
            sizes,
            line_shape=data.ArrayLayout(signed(8), line),
            sums_shape=data.ArrayLayout(signed(32), lanes),
        ),
        name=f"store_{line}_{lanes}",
        test_module="diptych_tb.systolic.store",
        options=RANDOM_START,
        env={"DUT_LINE": line, "DUT_LANES": lanes},
    )
    assert_ran(
        ran,
        "hands_off_what_it_reads",
        "writes_what_it_reads",
        "writes_sums_at_full_rate",
        "commands_wait_for_late_answers",
    )
