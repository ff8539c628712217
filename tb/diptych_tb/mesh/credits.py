# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the credit counters: wavelets and credits of all colors, against a count."""

import os
import random
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.mesh.fabric import BUFFER_DEPTH
from diptych_sim.host.clocking import start_clock_and_reset

COLORS = int(os.environ["DUT_COLORS"])
CYCLES = 2000


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(eager=[0.5, 1.0], back=[0.3, 0.9])
async def counts_what_the_receiver_has_room_for(dut: Any, eager: float, back: float) -> None:
    """``eager`` and ``back`` are how often a color sends, and gets a credit back."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {eager} {back}")
    dut.send.value = dut.credit.value = 0
    await start_clock_and_reset(dut)
    free = [BUFFER_DEPTH] * COLORS
    covers: Counter[str] = Counter()
    for _ in range(CYCLES):
        credit = send = available = 0
        for color in range(COLORS):
            returned = free[color] < BUFFER_DEPTH and rng.random() < back
            may = free[color] > 0 or returned
            sends = may and rng.random() < eager
            covers["used on arrival"] += sends and free[color] == 0
            covers["kept on arrival"] += returned and not sends and free[color] == 0
            covers["sent and returned"] += sends and returned
            covers["none"] += not may
            credit |= returned << color
            send |= sends << color
            available |= may << color
            free[color] += returned - sends
        dut.credit.value, dut.send.value = credit, send
        await RisingEdge(dut.clk)
        assert int(dut.available.value) == available
    wanted = {"sent and returned", "used on arrival", "none"}
    wanted -= {"used on arrival", "none"} if eager < back else set()
    wanted |= {"kept on arrival"} if back < eager < 1.0 else set()
    missing = [name for name in sorted(wanted) if covers[name] < 10]
    assert not missing, f"the stimulus reached {missing} too rarely: {covers}"
