# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the engine itself: rings of accumulators, flat or shared."""

import os
import warnings
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.events import report_event
from diptych_sim.host.wave_marks import mark_start


@cocotb.test(timeout_time=100, timeout_unit="us")
async def reports_the_sum(dut: Any) -> None:
    await start_clock_and_reset(dut)
    mark_start()
    await ClockCycles(dut.clk, 400)
    report_event(total=int(dut.total.value), seed=cocotb.RANDOM_SEED)


@cocotb.test(timeout_time=100, timeout_unit="us", skip="PROBE_INSIDE" not in os.environ)
async def looks_inside(dut: Any) -> None:
    await start_clock_and_reset(dut)
    await ClockCycles(dut.clk, 400)
    cells = [dut[f"cell_{index}"] for index in range(4)]
    if os.environ["PROBE_INSIDE"] == "shared":
        cells = [cell.shared_cell.body for cell in cells]
    report_event(inside=[int(cell.count.value) for cell in cells])


@cocotb.test(timeout_time=100, timeout_unit="us", skip="PROBE_WARN" not in os.environ)
async def warns(dut: Any) -> None:
    await start_clock_and_reset(dut)
    warnings.warn("a warning is an error here", stacklevel=1)
