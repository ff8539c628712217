# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the arbiter of reads."""

import random
from typing import Any

import cocotb

from diptych.memory.axi import BEAT_BYTES, ReadAddress, ReadData
from diptych_sim.host.axi_checker import AxiReadChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import StreamChecker, StreamDriver, StreamMonitor, sometimes
from diptych_tb.memory.axi import AxiReadMemory, beat_of

BURSTS = 80


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.7], stall=[0.0, 0.5], wait=[0.0, 0.5])
async def gives_each_its_beats(dut: Any, idle: float, stall: float, wait: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    contents = rng.randbytes(2**13)

    memory = AxiReadMemory(dut, "axi", contents, sometimes(rng, wait))
    managers = ("first", "second")
    ask = {
        name: StreamDriver(dut, f"{name}__ar", ReadAddress(), sometimes(rng, idle))
        for name in managers
    }
    await start_clock_and_reset(dut)
    memory.start()
    checker = AxiReadChecker(dut, "axi")

    async def manage(name: str) -> None:
        answers = StreamMonitor(dut, f"{name}__r", ReadData(), sometimes(rng, stall))
        StreamChecker(dut, f"{name}__r", ReadData())
        bursts = []
        for _ in range(BURSTS):
            beats = rng.choice([1, 2, 16])
            address = rng.randrange(2) * 4096 + BEAT_BYTES * rng.randint(0, 64 - beats)
            bursts.append({"addr": address, "len": beats - 1, "id": rng.randrange(4)})
        cocotb.start_soon(ask[name].send(bursts))
        for burst in bursts:
            for index in range(burst["len"] + 1):
                beat = await answers.beats.get()
                want = beat_of(contents, burst["addr"] + BEAT_BYTES * index)
                assert beat["data"] == want, f"{name}: wrong beat {index} of {burst}"
                assert beat["last"] == (index == burst["len"])

    tasks = [cocotb.start_soon(manage(name)) for name in managers]
    for task in tasks:
        await task
    assert checker.bursts == 2 * BURSTS
