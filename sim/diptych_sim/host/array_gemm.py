# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a matrix product: fills the HBM, runs the program, and tells what was written."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge, with_timeout

from diptych.memory.axi import BEAT_BYTES, ReadAddress, WriteAddress, WriteData
from diptych.systolic.isa import Handoff
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.clocking import PERIOD_NS, current_cycle, start_clock_and_reset
from diptych_sim.host.events import report_event
from diptych_sim.host.streams import StreamDriver, StreamMonitor

ENGINES = ("matrix", "vector", "load", "store", "scratchpad", "accumulators")


@cocotb.test()
async def multiplies(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_GEMM``.

    A JSON file with ``hbm`` (a binary file beside it), ``program`` and ``limit`` (cycles). What
    reaches the HBM, as its write channels show it, goes to ``written.bin`` beside it.
    """
    path = Path(os.environ["DIPTYCH_GEMM"])
    job = json.loads(path.read_text())
    contents = (path.parent / job["hbm"]).read_bytes()
    memory = bytearray(contents + bytes(-len(contents) % BEAT_BYTES))
    host = StreamDriver(dut, "host", unsigned(len(dut.host__payload)))
    dut.start.value = 0
    dut.program.value = job["program"]
    await start_clock_and_reset(dut)
    StreamMonitor(dut, "handoff", Handoff())
    await host.send(
        int.from_bytes(memory[at : at + BEAT_BYTES], "little") | at // BEAT_BYTES << 8 * BEAT_BYTES
        for at in range(0, len(memory), BEAT_BYTES)
    )
    reads, writes = AxiReadChecker(dut.hbm, "axi"), AxiWriteChecker(dut.hbm, "axi")
    bursts = StreamMonitor(dut.hbm, "axi__aw", WriteAddress(), passive=True)
    beats = StreamMonitor(dut.hbm, "axi__w", WriteData(), passive=True)
    asked = StreamMonitor(dut.hbm, "axi__ar", ReadAddress(), passive=True)
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    started = current_cycle()
    await with_timeout(RisingEdge(dut.finished), job["limit"] * PERIOD_NS, "ns")
    cycles = current_cycle() - started
    await RisingEdge(dut.clk)
    reads.check_finished()
    writes.check_finished()
    while not bursts.beats.empty():
        burst = bursts.beats.get_nowait()
        for index in range(burst["len"] + 1):
            beat = beats.beats.get_nowait()
            at = burst["addr"] + BEAT_BYTES * index
            data = beat["data"].to_bytes(BEAT_BYTES, "little")
            for n in range(BEAT_BYTES):
                if beat["strb"] >> n & 1:
                    memory[at + n] = data[n]
    (path.parent / "written.bin").write_bytes(memory)
    of_program = 0
    while not asked.beats.empty():
        burst = asked.beats.get_nowait()
        # The program is the last in HBM but for what is written.
        if burst["addr"] >= job["program"] // BEAT_BYTES * BEAT_BYTES:
            of_program += burst["len"] + 1
    parts = {
        name: {
            item._name.removeprefix("count_"): int(item.value)
            for item in getattr(dut.panel, name)
            if item._name.startswith("count_") and not item._name.endswith("_now")
        }
        for name in ENGINES
    }
    parts["hbm"] = {
        name: int(getattr(dut.hbm, f"count_{name}").value) for name in ("hbm_read", "hbm_write")
    }
    report_event(
        kind="gemm",
        cycles=cycles,
        cycle=current_cycle(),
        parts=parts,
        beats_read=reads.beats,
        beats_of_program=of_program,
        beats_written=writes.beats,
    )
