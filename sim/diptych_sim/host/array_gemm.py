# SPDX-License-Identifier: BSD-2-Clause
"""A product on the prefill panel in a simulator: fills the HBM, runs the program, reads the HBM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.memory.axi import ReadAddress
from diptych.systolic.isa import Handoff, Program

from .axi_checker import AxiReadChecker, AxiWriteChecker
from .clocking import current_cycle, start_clock_and_reset
from .jobs import ArrayGemmJob, ArrayGemmResult
from .observers.machine import PanelObservers
from .panel_memory import PanelMemory, panel_counters
from .streams import StreamMonitor
from .triggers import RisingEdge, catch_up, with_timeout

__all__ = ["multiply"]


async def multiply(dut: Any, job: ArrayGemmJob, folder: Path) -> ArrayGemmResult:
    """Run a program; what reaches the HBM, as its write channels show it, goes into a file."""
    memory = PanelMemory(dut, (folder / job.hbm).read_bytes())
    dut.start.value = 0
    dut.program.value = job.program
    await start_clock_and_reset(dut)
    StreamMonitor(dut, "handoff", Handoff())
    reads, writes = AxiReadChecker(dut.hbm, "axi"), AxiWriteChecker(dut.hbm, "axi")
    memory.watch()
    asked = StreamMonitor(dut.hbm, "axi__ar", ReadAddress(), passive=True)
    observers = PanelObservers(dut.panel, dut.clk, array=job.array, weight_rows=job.weight_rows)
    observers.start()
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    started = current_cycle()
    await with_timeout(RisingEdge(dut.finished), job.limit)
    cycles = current_cycle() - started
    await RisingEdge(dut.clk)
    reads.check_finished()
    writes.check_finished()
    await observers.check()
    catch_up()
    (folder / job.written).write_bytes(memory.written())
    of_program, first = 0, Program().from_bits(job.program).address
    while not asked.beats.empty():
        burst = asked.beats.get_nowait()
        # The program is the last in HBM but for what is written.
        if burst["addr"] >= first:
            of_program += burst["len"] + 1
    return ArrayGemmResult(
        cycles=cycles,
        parts=panel_counters(dut),
        beats_read=reads.beats,
        beats_of_program=of_program,
        beats_written=writes.beats,
        observed=observers.counts(),
    )
