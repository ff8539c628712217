# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of collectives: loads vectors, starts, finds first and last cycle, reads the results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb

from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.events import report_event
from diptych_sim.host.kernel import Host
from diptych_sim.host.mesh_counters import tile_counters
from diptych_sim.host.wave_marks import mark_start


async def _until_written(host: Host, job: dict[str, Any]) -> dict[str, Any]:
    """Return starts of all tiles, counters in the first of them, and after the last write."""
    tiles = list(host.tiles.values())
    written = [tile.core.count_sram_write for tile in tiles]
    instructions = [tile.core.count_instructions for tile in tiles]
    first = [int(signal.value) for signal in instructions]
    goals = [int(w.value) + more for w, more in zip(written, job["written"], strict=True)]
    starts: list[int | None] = [None] * len(tiles)
    waiting, writing = set(range(len(tiles))), {n for n, w in enumerate(job["written"]) if w}
    before: list[dict[str, int]] | None = None
    for _ in range(job["limit"]):
        await host.edge
        now = current_cycle()
        for n in list(waiting):
            # The last of the instructions that wait has issued: in this cycle the first move does.
            if int(instructions[n].value) - first[n] == job["waited"][n]:
                starts[n] = now
                waiting.discard(n)
                if before is None:
                    mark_start()
                    before = tile_counters(host.tiles)
        for n in list(writing):
            if int(written[n].value) == goals[n]:
                writing.discard(n)
        if not waiting and not writing:
            # The last word was written in the cycle before, if any was.
            assert before is not None
            after = tile_counters(host.tiles)
            return {"starts": starts, "end": now, "before": before, "after": after}
    place = list(host.tiles)[min(writing or waiting)]
    host.watchdog.stop(f"tile {place} has not ended its collective after {job['limit']} cycles")
    raise AssertionError("a watchdog that stops raises")


@cocotb.test()
async def runs(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_JOB``, and report its cycles, counters and results.

    A JSON file as that of :mod:`diptych_sim.host.kernel`, but with ``waited`` (instructions of each
    tile before its first move), ``written`` (bytes that each writes), ``gather`` (words of each
    row that read the results) and ``results`` (words that each row sends).
    """
    job = json.loads(Path(os.environ["DIPTYCH_JOB"]).read_text())
    host = Host(dut, job)
    await host.start()
    await host.send(job["load"])
    await host.settle()
    sending = cocotb.start_soon(host.send(job["start"]))
    found = await _until_written(host, job)
    await sending
    report_event(kind="collective", **found)
    reading = cocotb.start_soon(host.read(job["results"]))
    await host.send(job["gather"])
    report_event(kind="results", words=await reading)
