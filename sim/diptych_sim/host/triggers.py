# SPDX-License-Identifier: BSD-2-Clause
"""What host code waits for: cocotb's triggers in a simulator, and the same in one process elsewhere.

Host code imports them from here, so that it runs on any engine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import cocotb

__all__ = [
    "ClockCycles",
    "First",
    "Queue",
    "RisingEdge",
    "SimTimeoutError",
    "Stretch",
    "Task",
    "ValueChange",
    "at_end",
    "catch_up",
    "clock_of_top",
    "edges_before",
    "random_seed",
    "start_clock",
    "start_soon",
    "start_watching",
    "with_timeout",
]

PERIOD_NS = 2
"""Clock period in simulated time, the smallest that the time scale allows."""

# To type checkers they are cocotb's.
if TYPE_CHECKING or cocotb.is_simulation:
    from cocotb.clock import Clock
    from cocotb.queue import Queue
    from cocotb.task import Task
    from cocotb.triggers import (
        ClockCycles,
        First,
        RisingEdge,
        SimTimeoutError,
        ValueChange,
    )
    from cocotb.triggers import with_timeout as _with_timeout
    from cocotb.utils import get_sim_time

    start_soon = cocotb.start_soon
    Stretch: Any = None
    """A simulator shows no stretches of cycles, but each cycle by itself."""

    def start_watching(coroutine: Coroutine[Any, Any, Any]) -> Task[Any]:
        """Start what drives no signal, and wakes nothing that does; it may lag behind elsewhere."""
        return cocotb.start_soon(coroutine)

    def at_end(call: Callable[[], None]) -> None:
        """Have something called when the run is over; a simulator ends with its process."""
        del call

    def catch_up() -> None:
        """Do nothing: in a simulator what watches has seen all."""

    def clock_of_top() -> Any:
        """Return the clock of the top."""
        top: Any = cocotb.top
        return top.clk

    def start_clock(dut: Any) -> None:
        """Start ``clk``. It runs outside Python until the test ends."""
        Clock(dut.clk, PERIOD_NS, unit="ns").start()

    def edges_before() -> int:
        """Return the edges of the clock before this one, or before now."""
        return round(get_sim_time("ns")) // PERIOD_NS

    async def with_timeout(trigger: Any, cycles: int) -> Any:
        """Wait for a trigger, a task or a coroutine, for so many cycles at most."""
        return await _with_timeout(trigger, cycles * PERIOD_NS, "ns")

    def random_seed() -> int:
        """Return the seed of the run."""
        seed: Any = cocotb.RANDOM_SEED
        return seed

else:
    from .scheduler import (
        Queue,
        SimTimeoutError,
        Task,
        at_end,
        catch_up,
        clock_of_top,
        edges_before,
        random_seed,
        start_clock,
        start_soon,
        start_watching,
        with_timeout,
    )
    from .waits import ClockCycles, First, RisingEdge, Stretch, ValueChange
