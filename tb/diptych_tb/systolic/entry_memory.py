# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a memory of entries: reads and two writers at random, against a model."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych_sim.host.clocking import start_clock_and_reset

ENTRIES = int(os.environ["DUT_DEPTH"])
ELEMENTS = int(os.environ["DUT_ELEMENTS"])
BITS = ACTIVATION_BITS
# First in priority first.
WRITERS = ("write_v", "write_l")
CYCLES = 1000


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(share=[0.3, 1.0])
async def reads_what_earlier_cycles_wrote(dut: Any, share: float) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {share}")

    def port(name: str, part: str) -> Any:
        return getattr(dut, f"{name}__{part}")

    for name in ("read", *WRITERS):
        port(name, "en").value = 0
    await start_clock_and_reset(dut)
    model: list[list[int | None]] = [[None] * ELEMENTS for _ in range(ENTRIES)]
    shown: list[int | None] | None = None
    seen = 0
    offers: dict[str, tuple[int, int, int]] = {}
    for _ in range(CYCLES):
        for name in WRITERS:
            if name not in offers and rng.random() < share:
                bits = rng.getrandbits(BITS * ELEMENTS)
                offers[name] = rng.randrange(ENTRIES), bits, rng.getrandbits(ELEMENTS)
            at, bits, mask = offers.get(name, (rng.randrange(ENTRIES), 0, 2**ELEMENTS - 1))
            port(name, "address").value, port(name, "data").value = at, bits
            port(name, "mask").value, port(name, "en").value = mask, name in offers
        place, reads = rng.randrange(ENTRIES), rng.random() < share
        dut.read__address.value, dut.read__en.value = place, reads
        await RisingEdge(dut.clk)
        answer = int(dut.read__data.value)
        for n, want in enumerate(shown or ()):
            if want is not None:
                assert answer >> BITS * n & 2**BITS - 1 == want, f"element {n}"
                seen += 1
        assert dut.read__ready.value
        if reads:
            # What is written beside a read is not seen; without a read the answer stays.
            shown = list(model[place])
        ready = [bool(port(name, "ready").value) for name in WRITERS]
        assert ready == [True, "write_v" not in offers]
        first = next((name for name in WRITERS if name in offers), None)
        if first is not None:
            at, bits, mask = offers.pop(first)
            for n in range(ELEMENTS):
                if mask >> n & 1:
                    model[at][n] = bits >> BITS * n & 2**BITS - 1
    assert seen > CYCLES // 4 * ELEMENTS * share
