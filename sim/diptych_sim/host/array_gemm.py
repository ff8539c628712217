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

__all__ = ["PanelMemory", "multiply", "panel_counters"]

_ENGINES = ("matrix", "vector", "load", "store", "scratchpad", "accumulators")


class PanelMemory:
    """The HBM of a panel: filled by the host, and what reaches it later, as its channels show it."""

    def __init__(self, dut: Any, contents: bytes) -> None:
        self._dut = dut
        self._memory = bytearray(contents + bytes(-len(contents) % BEAT_BYTES))
        self._host = StreamDriver(dut, "host", unsigned(len(dut.host__payload)))

    async def fill(self) -> None:
        """Write all contents."""
        await self._host.send(self._beat(at) for at in range(0, len(self._memory), BEAT_BYTES))

    def _beat(self, at: int) -> int:
        data = self._memory[at : at + BEAT_BYTES]
        return int.from_bytes(data, "little") | at // BEAT_BYTES << 8 * BEAT_BYTES

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes into the beat that begins at ``at``."""
        self._memory[at : at + len(data)] = data
        await self._host.send([self._beat(at)])

    def watch(self) -> None:
        """Begin to watch the write channels."""
        self._bursts = StreamMonitor(self._dut.hbm, "axi__aw", WriteAddress(), passive=True)
        self._beats = StreamMonitor(self._dut.hbm, "axi__w", WriteData(), passive=True)

    def written(self) -> bytes:
        """Return the contents with all that was written while they were watched."""
        bursts, beats = self._bursts.beats, self._beats.beats
        while not bursts.empty():
            burst = bursts.get_nowait()
            for index in range(burst["len"] + 1):
                beat = beats.get_nowait()
                at = burst["addr"] + BEAT_BYTES * index
                data = beat["data"].to_bytes(BEAT_BYTES, "little")
                for n in range(BEAT_BYTES):
                    if beat["strb"] >> n & 1:
                        self._memory[at + n] = data[n]
        return bytes(self._memory)


def panel_counters(dut: Any) -> dict[str, dict[str, int]]:
    """Return the counters of a panel's blocks, and of its HBM, by block and name."""
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
    return parts


async def multiply(dut: Any, job: ArrayGemmJob, folder: Path) -> ArrayGemmResult:
    """Run a program; what reaches the HBM, as its write channels show it, goes into a file."""
    memory = PanelMemory(dut, (folder / job.hbm).read_bytes())
    dut.start.value = 0
    dut.program.value = job.program
    await start_clock_and_reset(dut)
    StreamMonitor(dut, "handoff", Handoff())
    await memory.fill()
    reads, writes = AxiReadChecker(dut.hbm, "axi"), AxiWriteChecker(dut.hbm, "axi")
    memory.watch()
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
    (folder / job.written).write_bytes(memory.written())
    of_program = 0
    while not asked.beats.empty():
        burst = asked.beats.get_nowait()
        # The program is the last in HBM but for what is written.
        if burst["addr"] >= job.program // BEAT_BYTES * BEAT_BYTES:
            of_program += burst["len"] + 1
    return ArrayGemmResult(
        cycles=cycles,
        parts=panel_counters(dut),
        beats_read=reads.beats,
        beats_of_program=of_program,
        beats_written=writes.beats,
        observed=observers.counts(),
    )
