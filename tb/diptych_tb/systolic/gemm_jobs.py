# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of products on the panel alone: program after program, on a memory that varies."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout

from diptych.systolic.isa import Handoff
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.clocking import PERIOD_NS, start_clock_and_reset
from diptych_sim.host.streams import StreamMonitor
from diptych_tb.memory.slow_axi import SlowMemory


@cocotb.test()
async def multiplies_whatever_the_memory_does(dut: Any) -> None:
    """Run the jobs in ``$DIPTYCH_JOBS``.

    A list of objects with ``hbm`` (hexadecimal), ``program``, ``limit`` (cycles), ``latency``,
    ``rate`` and ``stall`` of the memory, and what it must hold at the end: ``rows`` of
    hexadecimal bytes from ``result`` on, ``pitch`` apart.
    """
    jobs = json.loads(Path(os.environ["DIPTYCH_JOBS"]).read_text())
    memory = SlowMemory(dut, "axi", random.Random(cocotb.RANDOM_SEED))
    dut.start.value = 0
    await start_clock_and_reset(dut)
    StreamMonitor(dut, "handoff", Handoff())
    memory.start()
    AxiReadChecker(dut, "axi")
    AxiWriteChecker(dut, "axi")
    for job in jobs:
        what = {name: job[name] for name in ("shape", "latency", "rate", "stall")}
        memory.contents = bytearray.fromhex(job["hbm"])
        memory.latency, memory.rate, memory.stall = job["latency"], job["rate"], job["stall"]
        dut.program.value = job["program"]
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        await with_timeout(RisingEdge(dut.finished), job["limit"] * PERIOD_NS, "ns")
        await RisingEdge(dut.clk)
        for index, row in enumerate(job["rows"]):
            at = job["result"] + index * job["pitch"]
            expected = bytes.fromhex(row)
            assert memory.contents[at : at + len(expected)] == expected, f"{what}: row {index}"
