# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the credit counters: wavelets and credits of all colors, against a count."""

import os
import random
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych_sim.host.clocking import start_clock_and_reset

COLORS, DEPTH = int(os.environ["DUT_COLORS"]), int(os.environ["DUT_DEPTH"])
CYCLES = 2000


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(eager=[0.3, 1.0], back=[0.1, 0.9])
async def counts_what_the_receiver_has_room_for(dut: Any, eager: float, back: float) -> None:
    """``eager`` and ``back`` are how often a color is chosen, and gets a credit back.

    A choice is announced one cycle later, so that a wavelet may be chosen in each of two cycles
    for which ``two`` stood in the cycle before.
    """
    rng = random.Random(f"{cocotb.RANDOM_SEED} {eager} {back}")
    dut.send.value = dut.credit.value = dut.control.value = 0
    await start_clock_and_reset(dut)
    free, held, drains = [DEPTH] * COLORS, [0] * COLORS, [False] * COLORS
    two = [False] * COLORS
    chosen: tuple[int, bool] | None = None
    covers: Counter[str] = Counter()
    for _ in range(CYCLES):
        credit = 0
        for color in range(COLORS):
            # Wavelets that the receiver holds, without the one that is announced now.
            returned = held[color] > 0 and rng.random() < back
            credit |= returned << color
            held[color] -= returned
            free[color] += returned
        send = 1 << chosen[0] if chosen else 0
        dut.send.value, dut.credit.value = send, credit
        dut.control.value = send if chosen and chosen[1] else 0
        if chosen:
            color, control = chosen
            assert free[color], "more was chosen than the receiver has room for"
            covers["last entry"] += free[color] == 1
            covers["sent and returned"] += credit >> color & 1
            covers["behind a control wavelet"] += control
            free[color] -= 1
            held[color] += 1
            drains[color] |= control
        drains = [d and n < DEPTH for d, n in zip(drains, free, strict=True)]
        # Not before the control wavelet of the cycle before has been counted.
        able = [k for k in range(COLORS) if two[k] and not (chosen and chosen == (k, True))]
        covers["none"] += not able
        chosen = None
        if able and rng.random() < eager:
            chosen = (rng.choice(able[:2]), rng.random() < 0.1)
        await RisingEdge(dut.clk)
        ready = [0 if d else n for d, n in zip(drains, free, strict=True)]
        two = [n >= 2 for n in ready]
        assert int(dut.two.value) == sum(b << k for k, b in enumerate(two))
        assert int(dut.three.value) == sum((n >= 3) << k for k, n in enumerate(ready))
    wanted = {"sent and returned", "behind a control wavelet"}
    wanted |= {"last entry"} if back < 0.5 and eager == 1.0 else set()
    missing = [name for name in sorted(wanted) if covers[name] < 10]
    assert not missing, f"the stimulus reached {missing} too rarely: {covers}"
