# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the systolic array: weights, swaps and activations at random."""

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych_sim.host.clocking import start_clock_and_reset

ROWS = int(os.environ["DUT_ROWS"])
COLUMNS = int(os.environ["DUT_COLUMNS"])
LINE = max(ROWS, COLUMNS)
GROUP = int(os.environ["DUT_WEIGHT_ROWS"])
LATENCY = ROWS + COLUMNS - 1


def _packed(values: Any, bits: int) -> int:
    return sum((int(v) & 2**bits - 1) << bits * n for n, v in enumerate(values))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(lines=[0.5, 1.0], swaps=[0.05, 0.5, 1.0])
async def sums_are_products(dut: Any, lines: float, swaps: float) -> None:
    """A line of weights comes in a share ``lines`` of cycles, a swap in a share ``swaps``."""
    rng = np.random.default_rng(
        random.Random(f"{cocotb.RANDOM_SEED} {lines} {swaps}").getrandbits(32)
    )
    dut.w_valid.value = dut.swap.value = 0
    await start_clock_and_reset(dut)
    following = np.zeros((ROWS, COLUMNS), dtype=np.int64)

    async def load(index: int, west: int, group: int = 0) -> None:
        values = rng.integers(-128, 128, GROUP * LINE)
        dut.w_valid.value, dut.w_west.value, dut.w_index.value = 1, west, index
        dut.w_group.value = group
        dut.w.value = _packed(values, 8)
        if west:
            following[:, index] = values[:ROWS]
        elif group:
            following[index : index + GROUP] = values.reshape(GROUP, LINE)[:, :COLUMNS]
        else:
            following[index] = values[:COLUMNS]

    # The array keeps what the test before left: fill both tiles.
    for index in range(ROWS):
        await load(index, 0)
        await RisingEdge(dut.clk)
    dut.w_valid.value, dut.swap.value = 0, 1
    await RisingEdge(dut.clk)
    current = following.copy()
    expected: list[Any] = []
    for cycle in range(600):
        most = rng.choice([127, 2047])
        x = rng.integers(-most - 1, most + 1, ROWS)
        dut.x.value = _packed(x, ACTIVATION_BITS)
        swap = rng.random() < swaps
        dut.swap.value = int(swap)
        expected.append(x @ current % 2**32)
        if swap:
            current = following.copy()
        dut.w_valid.value = 0
        if rng.random() < lines:
            west, group = int(rng.integers(2)), int(rng.integers(2))
            if group and not west:
                await load(int(rng.integers(ROWS // GROUP)) * GROUP, west, group)
            else:
                await load(int(rng.integers(COLUMNS if west else ROWS)), west)
        await RisingEdge(dut.clk)
        # Read before the edge: what entered ``LATENCY`` cycles before this one.
        if cycle >= LATENCY:
            sums = int(dut.sums.value)
            got = [sums >> 32 * n & 0xFFFFFFFF for n in range(COLUMNS)]
            assert got == expected[cycle - LATENCY].tolist(), f"cycle {cycle}"
