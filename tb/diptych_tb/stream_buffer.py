# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the stream buffer."""

import random
from typing import Any

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import (
    StreamChecker,
    StreamDriver,
    StreamMonitor,
    check_in_order,
    sometimes,
)

PAYLOAD = data.StructLayout(
    {"value": signed(12), "last": 1, "pair": data.ArrayLayout(signed(3), 2)}
)


def _beats(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {
            "value": rng.choice([-2048, 2047, rng.randrange(-2048, 2048)]),
            "last": rng.randrange(2),
            "pair": [rng.randrange(-4, 4), rng.randrange(-4, 4)],
        }
        for _ in range(count)
    ]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.5], stall=[0.0, 0.5])
async def passes_every_beat_in_order(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    beats = _beats(rng, 512)
    driver = StreamDriver(dut, "i", PAYLOAD, sometimes(rng, idle))
    await start_clock_and_reset(dut)
    monitor = StreamMonitor(dut, "o", PAYLOAD, sometimes(rng, stall))
    StreamChecker(dut, "i", PAYLOAD)
    StreamChecker(dut, "o", PAYLOAD)
    cocotb.start_soon(driver.send(beats))
    await check_in_order(monitor, beats)
    await ClockCycles(dut.clk, 4)
    assert monitor.beats.empty()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def passes_a_beat_per_cycle(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    beats = _beats(rng, 64)
    driver = StreamDriver(dut, "i", PAYLOAD)
    await start_clock_and_reset(dut)
    monitor = StreamMonitor(dut, "o", PAYLOAD)
    sending = cocotb.start_soon(driver.send(beats))
    await ClockCycles(dut.clk, len(beats) + 2)  # one to present the first, one of latency
    await ReadOnly()
    assert sending.done()
    assert monitor.beats.qsize() == len(beats)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_two_beats_while_stalled(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    beats = _beats(rng, 3)
    driver = StreamDriver(dut, "i", PAYLOAD)
    dut.o__ready.value = 0
    await start_clock_and_reset(dut)
    sending = cocotb.start_soon(driver.send(beats))
    await ClockCycles(dut.clk, 8)
    assert not dut.i__ready.value
    assert not sending.done()
    monitor = StreamMonitor(dut, "o", PAYLOAD)
    await check_in_order(monitor, beats)
    await RisingEdge(dut.clk)
    assert sending.done()
