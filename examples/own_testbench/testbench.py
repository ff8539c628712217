# SPDX-License-Identifier: BSD-2-Clause
"""cocotb testbench of the running sum: drivers, monitors and rule checkers of streams."""

import random
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from running_sum import Element

from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import (
    StreamChecker,
    StreamDriver,
    StreamMonitor,
    check_in_order,
    sometimes,
)


def expected(elements: list[dict[str, int]]) -> list[int]:
    """Return the sums that the block must give."""
    sums, total = [], 0
    for element in elements:
        total = (total + element["value"]) % 2**32
        sums.append(total)
        if element["last"]:
            total = 0
    return sums


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.5], stall=[0.0, 0.5])
async def adds_rows(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    elements = [{"value": rng.randrange(2**16), "last": rng.random() < 0.2} for _ in range(500)]
    # The driver sets its signals before the reset; monitors and checkers start after it.
    driver = StreamDriver(dut, "i", Element(), sometimes(rng, idle))
    await start_clock_and_reset(dut)
    monitor = StreamMonitor(dut, "o", unsigned(32), sometimes(rng, stall))
    StreamChecker(dut, "i", Element())
    StreamChecker(dut, "o", unsigned(32))
    cocotb.start_soon(driver.send(elements))
    await check_in_order(monitor, expected(elements))
