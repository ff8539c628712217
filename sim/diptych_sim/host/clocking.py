# SPDX-License-Identifier: BSD-2-Clause
"""Clock, reset, and what cycle it is."""

from typing import Any

from .triggers import PERIOD_NS, ClockCycles, edges_before, start_clock

__all__ = ["PERIOD_NS", "count_on", "current_cycle", "start_clock", "start_clock_and_reset"]

_before = 0


async def start_clock_and_reset(dut: Any) -> None:
    """Start ``clk`` and reset the design, which holds whatever the last test left.

    Construct drivers before, so that their valid signals are low, and monitors after.
    """
    dut.rst.value = 1
    start_clock(dut)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0


def current_cycle() -> int:
    """Return the cycles before this edge of the clock: the simulator's, and those of :func:`count_on`."""
    return edges_before() + _before


def count_on(cycles: int) -> None:
    """Count from here on as a run does that has gone on for some cycles more than this one."""
    global _before
    _before = cycles
