# SPDX-License-Identifier: BSD-2-Clause
"""A product on the prefill panel in a simulator: fills the HBM, runs the program, reads the HBM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge, with_timeout

from diptych.memory.axi import BEAT_BYTES, ReadAddress, WriteAddress, WriteData
from diptych.systolic.isa import Handoff

from .axi_checker import AxiReadChecker, AxiWriteChecker
from .clocking import PERIOD_NS, current_cycle, start_clock_and_reset
from .jobs import ArrayGemmJob, ArrayGemmResult
from .observers.machine import PanelObservers
from .streams import StreamDriver, StreamMonitor

__all__ = ["multiply"]

_ENGINES = ("matrix", "vector", "load", "store", "scratchpad", "accumulators")


async def multiply(dut: Any, job: ArrayGemmJob, folder: Path) -> ArrayGemmResult:
    """Run a program; what reaches the HBM, as its write channels show it, goes into a file."""
    contents = (folder / job.hbm).read_bytes()
    memory = bytearray(contents + bytes(-len(contents) % BEAT_BYTES))
    host = StreamDriver(dut, "host", unsigned(len(dut.host__payload)))
    dut.start.value = 0
    dut.program.value = job.program
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
    observers = PanelObservers(dut.panel, dut.clk, array=job.array, weight_rows=job.weight_rows)
    observers.start()
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    started = current_cycle()
    await with_timeout(RisingEdge(dut.finished), job.limit * PERIOD_NS, "ns")
    cycles = current_cycle() - started
    await RisingEdge(dut.clk)
    reads.check_finished()
    writes.check_finished()
    await observers.check()
    while not bursts.beats.empty():
        burst = bursts.beats.get_nowait()
        for index in range(burst["len"] + 1):
            beat = beats.beats.get_nowait()
            at = burst["addr"] + BEAT_BYTES * index
            data = beat["data"].to_bytes(BEAT_BYTES, "little")
            for n in range(BEAT_BYTES):
                if beat["strb"] >> n & 1:
                    memory[at + n] = data[n]
    (folder / job.written).write_bytes(memory)
    of_program = 0
    while not asked.beats.empty():
        burst = asked.beats.get_nowait()
        # The program is the last in HBM but for what is written.
        if burst["addr"] >= job.program // BEAT_BYTES * BEAT_BYTES:
            of_program += burst["len"] + 1
    parts = {
        name: {
            item._name.removeprefix("count_"): int(item.value)
            for item in getattr(dut.panel, name)
            if item._name.startswith("count_") and not item._name.endswith("_now")
        }
        for name in _ENGINES
    }
    parts["hbm"] = {
        name: int(getattr(dut.hbm, f"count_{name}").value) for name in ("hbm_read", "hbm_write")
    }
    return ArrayGemmResult(
        cycles=cycles,
        parts=parts,
        beats_read=reads.beats,
        beats_of_program=of_program,
        beats_written=writes.beats,
        observed=observers.counts(),
    )
