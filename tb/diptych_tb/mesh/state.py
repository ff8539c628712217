# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the decode panel: writes down the state of every tile at chosen cycles."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from diptych_tb.clocking import start_clock_and_reset
from diptych_tb.mesh.decode import WIDTH, lines
from diptych_tb.mesh.watchdog import tile_body
from diptych_tb.streams import StreamDriver


def _find(tile: Any, name: str) -> Any:
    handle = tile
    try:
        for part in name.split("."):
            # Verilog has to escape a name with a dollar, and then so does its interface.
            handle = handle[f"\\{part} " if "$" in part else part]
        if not hasattr(handle, "value"):
            return None
    except (KeyError, AttributeError):
        return None
    return handle


def _read(handle: Any) -> list[int]:
    """Return the words of a memory, or the one value of a register."""
    value = handle.value
    if hasattr(value, "to_unsigned"):
        return [value.to_unsigned()]
    try:
        return [int(value)]
    except TypeError:
        return [int(handle[n].value) for n in sorted(handle.range)]


@cocotb.test()
async def writes_state(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_STATE``: a JSON file that says what to send, read and write.

    ``load`` (words of each row), ``mesh``, ``names`` (registers and memories of a tile), ``cycles``
    (since the end of reset, in order) and ``out`` (a file for what was read).
    """
    job = json.loads(Path(os.environ["DIPTYCH_STATE"]).read_text())
    rows, columns = job["mesh"]
    drivers = [StreamDriver(dut, f"i__{r}", unsigned(WIDTH)) for r in range(rows)]
    for r in range(rows):
        getattr(dut, f"words__{r}__valid").value = 0
    await start_clock_and_reset(dut)
    for driver, words in zip(drivers, job["load"], strict=True):
        cocotb.start_soon(driver.send(lines(words)))
    handles = {
        (r, c, name): handle
        for r in range(rows)
        for c in range(columns)
        for name in job["names"]
        if (handle := _find(tile_body(dut.mesh[f"tile_{r}_{c}"]), name)) is not None
    }
    edge = RisingEdge(dut.clk)
    now = 0
    out = []
    for cycle in job["cycles"]:
        while now < cycle:
            await edge
            now += 1
        # Values at an edge are those before it: what cycle - 1 cycles have left.
        out.append({f"{r} {c} {name}": _read(handle) for (r, c, name), handle in handles.items()})
    Path(job["out"]).write_text(json.dumps(out))
