# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the accumulators: sums and reads at random, against a model."""

import os
import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych_sim.host.clocking import start_clock_and_reset

COLUMNS = int(os.environ["DUT_COLUMNS"])
DEPTH = int(os.environ["DUT_DEPTH"])
CYCLES = 1500


def _split(word: int) -> list[int]:
    return [word >> 32 * n & 0xFFFFFFFF for n in range(COLUMNS)]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(sums=[0.4, 1.0], reads=[0.3, 1.0], span=[1, 6])
async def adds_up(dut: Any, sums: float, reads: float, span: int) -> None:
    """``span`` entries of each half are used, so that sums of an entry follow each other closely."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {sums} {reads} {span}")
    dut.sums__en.value = 0
    dut.read__en.value = 0
    await start_clock_and_reset(dut)
    model: dict[int, list[int]] = {}  # with all sums that came
    memory: dict[int, list[int]] = {}  # with those that came 3 cycles ago
    coming: deque[tuple[int, list[int]] | None] = deque([None] * 2)
    asked: int | None = None
    shown: list[int] | None = None
    bytes_read = bytes_written = waits = 0
    for cycle in range(CYCLES):
        place = rng.randrange(2) * (DEPTH // 2) + rng.randrange(span)
        sends = rng.random() < sums
        start = rng.randrange(3) if place in model else 0
        addends = rng.getrandbits(32 * COLUMNS)
        dut.sums__en.value = sends
        dut.sums__address.value, dut.sums__start.value = place, start
        dut.sums__data.value = addends
        if asked is None and memory and rng.random() < reads:
            asked = rng.choice(sorted(memory))
            dut.read__address.value = asked
        dut.read__en.value = asked is not None
        await RisingEdge(dut.clk)
        if shown is not None:
            assert _split(int(dut.read__data.value)) == shown, f"cycle {cycle}"
            shown = None
        if asked is not None:
            same_half = sends and start and (asked >= DEPTH // 2) == (place >= DEPTH // 2)
            assert bool(dut.read__ready.value) == (not same_half)
            waits += bool(same_half)
            if not same_half:
                shown, asked = memory[asked], None
                bytes_read += 4 * COLUMNS
        if sends:
            old = model.get(place, [0] * COLUMNS)
            factor = (0, 1, 256)[start]
            new = [(factor * o + a) % 2**32 for o, a in zip(old, _split(addends), strict=True)]
            model[place] = new
            coming.append((place, new))
            bytes_written += 4 * COLUMNS
            bytes_read += 4 * COLUMNS * (start != 0)
        else:
            coming.append(None)
        arrived = coming.popleft()
        if arrived is not None:
            memory[arrived[0]] = arrived[1]
    dut.sums__en.value = 0
    dut.read__en.value = 0
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    assert int(dut.count_accumulator_read.value) == bytes_read
    assert int(dut.count_accumulator_write.value) == bytes_written
    assert int(dut.conflicts_read.value) == waits
