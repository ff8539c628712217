# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of every arithmetic block: latency, hold, and agreement with the golden model.

``$DUT_BLOCK`` names the block in :data:`.vectors.BLOCKS`, ``$DUT_LATENCY`` is what it promises.
"""

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.fields import Fields
from diptych_tb.arith.vectors import BLOCKS

VECTORS = 5000


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(hold=[0.0, 0.3])
async def matches_the_golden_model(dut: Any, hold: float) -> None:
    block = BLOCKS[os.environ["DUT_BLOCK"]]
    latency = int(os.environ["DUT_LATENCY"])
    rng = random.Random(cocotb.RANDOM_SEED)
    columns = block.draw(np.random.default_rng(cocotb.RANDOM_SEED), VECTORS)
    expected = block.golden(columns)

    drives = []
    for name, shape in block.inputs.items():
        pack = Fields(shape).pack
        drives.append((dut[name], [pack(beat) for beat in columns[name].tolist()]))
    checks = []
    for name, shape in block.outputs.items():
        pack = Fields(shape).pack
        checks.append((name, dut[name], [pack(beat) for beat in expected[name].tolist()]))

    dut.enable.value = 0
    await start_clock_and_reset(dut)
    edge = RisingEdge(dut.clk)
    entered = 0  # elements that an enabled edge has taken
    while entered < VECTORS:
        for handle, values in drives:
            handle.value = values[entered]
        enabled = rng.random() >= hold
        dut.enable.value = enabled
        await edge  # reads what was there before the edge
        oldest = entered - latency
        if oldest >= 0:
            for name, handle, values in checks:
                got = int(handle.value)
                inputs = {port: columns[port][oldest].tolist() for port in block.inputs}
                assert got == values[oldest], (
                    f"{name} of element {oldest} is {got:#x}, not {values[oldest]:#x}: {inputs}"
                )
        entered += enabled
