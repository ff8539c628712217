# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of kernels on the decode panel: loads, starts, watches, and reads the results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import ClockCycles, RisingEdge

from diptych_sim.host.clocking import current_cycle, start_clock_and_reset
from diptych_sim.host.decode import WIDTH, lines
from diptych_sim.host.events import report_event
from diptych_sim.host.lanes_cosim import mesh_of
from diptych_sim.host.mesh_counters import tile_counters
from diptych_sim.host.streams import StreamDriver
from diptych_sim.host.watchdog import PATIENCE, Watchdog, tile_bodies
from diptych_sim.host.wave_marks import mark_start

SETTLE = 100
"""Cycles after which what was sent to a tile has arrived, besides a cycle for each column."""


class Host:
    """Loads, starts and reads a mesh from its west edge."""

    def __init__(self, dut: Any, job: dict[str, Any]) -> None:
        self.dut, self._job = dut, job
        self.edge = RisingEdge(dut.clk)
        rows, columns = job["mesh"]
        self.rows = rows
        self.drivers = [StreamDriver(dut, f"i__{r}", unsigned(WIDTH)) for r in range(rows)]
        self._settle = SETTLE + columns

    async def start(self) -> None:
        """Reset the mesh; the insides of its tiles can be seen only from then on."""
        job = self._job
        mesh = mesh_of(self.dut.mesh, job)
        await start_clock_and_reset(self.dut)
        self.tiles = tile_bodies(mesh, *job["mesh"])
        self.watchdog = Watchdog(
            self.dut,
            self.tiles,
            lines=job["lines"],
            color_names={int(color): name for color, name in job["colors"].items()},
            limit=job["limit"],
        )
        self._busy = [tile.core.watch_busy for tile in self.tiles.values()]

    async def send(self, words: list[list[int]]) -> None:
        """Send words to each row, and return when they are in the mesh."""
        tasks = [
            cocotb.start_soon(driver.send(lines(row)))
            for driver, row in zip(self.drivers, words, strict=True)
        ]
        for task in tasks:
            await task

    async def settle(self) -> None:
        await ClockCycles(self.dut.clk, self._settle)

    async def until_busy(self) -> None:
        """Return in the cycle in which a tile is busy."""
        for _ in range(self._settle):
            if any(busy.value for busy in self._busy):
                return
            await self.edge
        self.watchdog.stop("no task has started")

    async def until_idle(self) -> None:
        """Return in the first cycle in which no tile is busy."""
        watching = cocotb.start_soon(self.watchdog.run())
        while working := [busy for busy in self._busy if busy.value]:
            while working[0].value:
                await self.edge
        watching.cancel()

    async def read(self, words: int) -> list[list[int]]:
        """Return the next words that leave each row to the west."""
        ports = [
            (self.dut[f"results_valid__{r}"], self.dut[f"results__{r}"]) for r in range(self.rows)
        ]
        out: list[list[int]] = [[] for _ in ports]
        still = 0
        while any(len(row) < words for row in out):
            await self.edge
            still += 1
            for row, (valid, data) in zip(out, ports, strict=True):
                if valid.value:
                    row.append(int(data.value))
                    still = 0
            if still > PATIENCE:
                self.watchdog.stop(f"results stopped after {min(map(len, out))} of {words} words")
        return out


@cocotb.test()
async def runs(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_JOB``, and report its cycles, counters and results.

    A JSON file with ``mesh`` (rows, columns), ``load`` and ``start`` (words of each row),
    ``readbacks`` (packets, words), ``lines`` (the program), ``colors`` (names), ``limit`` (cycles)
    and what :func:`.mesh_of` asks for.
    Cycles run from the first in which a tile is busy to the first in which none is.
    """
    job = json.loads(Path(os.environ["DIPTYCH_JOB"]).read_text())
    host = Host(dut, job)
    await host.start()
    await host.send(job["load"])
    await host.settle()
    sending = cocotb.start_soon(host.send(job["start"]))
    await host.until_busy()
    mark_start()
    start, before = current_cycle(), tile_counters(host.tiles)
    await host.until_idle()
    await sending
    report_event(
        kind="kernel",
        cycles=current_cycle() - start,
        before=before,
        after=tile_counters(host.tiles),
    )
    for readback in job["readbacks"]:
        reading = cocotb.start_soon(host.read(readback["words"]))
        await host.send(readback["packets"])
        report_event(kind="results", words=await reading)
