# SPDX-License-Identifier: BSD-2-Clause
"""The engine that loads: every target, with random alignment, pauses and bursts.

Mutations that were tried by hand, each seen to fail: bursts across 4 KiB; a whole last line; token
numbers cut to 8 bits; writes that are not waited for; rows without the target's pitch; a pick of
the entry before; token numbers of the command before, also of a pick before a gather; of dense
pieces the beats without those before the first byte, bursts again for each row, a first byte that is
not skipped, no zeros up to a line's end, bytes of the next piece there; the rest of a beat kept; a
beat taken before a gather's token numbers. Of causes: waits exchanged; a wait of a pick as a write, or
a beat of a later command as its wait.

Without its reset ``busy`` is as before: what the others begin with ends a command in the next cycle.
"""

from functools import partial

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from diptych.arith.scale import ScaleWord
from diptych.systolic.dma_load import LoadEngine
from diptych_sim.engine.simulate import simulate
from diptych_tb.systolic.dma import sizes_of_environment
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("lanes", "line"),
    [
        (4, 4),
        pytest.param(8, 16, marks=pytest.mark.slow),
        pytest.param(32, 32, marks=pytest.mark.slow),
        pytest.param(16, 16, marks=pytest.mark.slow),
        pytest.param(128, 128, marks=pytest.mark.slow),
    ],
)
def test_writes_what_it_reads(lanes, line, monkeypatch):
    monkeypatch.setenv("DUT_LANES", str(lanes))
    monkeypatch.setenv("DUT_LINE", str(line))
    shapes = (
        data.ArrayLayout(ScaleWord, lanes),
        data.ArrayLayout(signed(32), lanes),
    )
    ran = simulate(
        partial(LoadEngine, sizes_of_environment(), shapes=shapes),
        name=f"load_{lanes}_{line}",
        test_module="diptych_tb.systolic.dma",
        options=RANDOM_START,
        env={"DUT_LANES": lanes, "DUT_LINE": line},
    )
    assert_ran(ran, "writes_what_it_reads", "commands_follow_each_other")
