# SPDX-License-Identifier: BSD-2-Clause
"""Clock and reset."""

from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

__all__ = ["PERIOD_NS", "start_clock", "start_clock_and_reset"]

PERIOD_NS = 2
"""Clock period in simulated time, the smallest that the time scale allows."""


def start_clock(dut: Any) -> None:
    """Start ``clk``. It runs outside Python until the test ends."""
    Clock(dut.clk, PERIOD_NS, unit="ns").start()


async def start_clock_and_reset(dut: Any) -> None:
    """Start ``clk`` and reset the design, which holds whatever the last test left.

    Construct drivers before, so that their valid signals are low, and monitors after.
    """
    dut.rst.value = 1
    start_clock(dut)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
