# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the decode panel: writes down the state of every tile at chosen cycles."""

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from diptych_sim.engine.lanes.digest import WORDS, digest_keys
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.simulator_host import HOST_LINE_BITS, host_lines
from diptych_sim.host.streams import StreamDriver
from diptych_sim.host.watchdog import tile_body


def find_handle(tile: Any, name: str) -> Any:
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


def read_handle(handle: Any) -> list[int]:
    """Return the words of a memory, or the one value of a register."""
    value = handle.value
    if hasattr(value, "to_unsigned"):
        return [value.to_unsigned()]
    try:
        return [int(value)]
    except TypeError:
        return [int(handle[n].value) for n in sorted(handle.range)]


class Digests:
    """Takes a digest of the registers of each tile, or other part, in each cycle.

    Parameters
    ----------
    registers : list of (handle, str, int)
        Registers, their names, and the numbers of their parts.
    parts : int
        Parts.
    library : str
        That of ``digest.cpp``.
    words : int
        As of :func:`.digest_keys`.
    """

    def __init__(
        self, registers: list[tuple[Any, str, int]], parts: int, library: str, words: int = WORDS
    ) -> None:
        functions = ctypes.CDLL(library)
        functions.digest_find.restype = ctypes.c_void_p
        self._add = functions.digest_add
        found = [functions.digest_find(handle._path.encode()) for handle, _, _ in registers]
        assert all(found), "registers must be found by their paths"
        self._handles = (ctypes.c_void_p * len(found))(*found)
        keys = [key for _, name, _ in registers for key in digest_keys(name, words)]
        self._keys = (ctypes.c_uint64 * len(keys))(*keys)
        self._words = ctypes.c_long(words)
        self._parts = (ctypes.c_long * len(found))(*(part for _, _, part in registers))
        self._out = (ctypes.c_uint64 * parts)()
        self.taken = bytearray()

    def take(self) -> None:
        ctypes.memset(self._out, 0, ctypes.sizeof(self._out))
        count = ctypes.c_long(len(self._handles))
        self._add(self._handles, self._keys, self._words, self._parts, count, self._out)
        self.taken += bytes(self._out)


async def write_states(
    dut: Any,
    job: dict[str, Any],
    handles: dict[str, Any],
    registers: list[str],
    digests: Digests | None,
    each_cycle: Callable[[], None] = lambda: None,
) -> None:
    """Write down what is there at the cycles of a job, and names of registers, as it says.

    ``each_cycle`` is called behind each edge.
    """
    edge = RisingEdge(dut.clk)
    now = 0
    states = []
    for cycle in job["cycles"]:
        while now < cycle:
            await edge
            now += 1
            each_cycle()
            if digests is not None:
                digests.take()
        # Values at an edge are those before it: what cycle - 1 cycles have left.
        states.append({name: read_handle(handle) for name, handle in handles.items()})
    if digests is not None:
        Path(job["digests"]).write_bytes(digests.taken)
    Path(job["out"]).write_text(json.dumps({"states": states, "registers": registers}))


@cocotb.test()
async def writes_state(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_STATE``: a JSON file that says what to send, read and write.

    ``load`` (words of each row), ``mesh``, ``names`` (registers and memories of a tile), ``cycles``
    (since the end of reset, in order), ``out`` (a file for what was read), ``digests`` (a file for
    digests of registers in each cycle up to the last, uint64 [cycle, tile], or None) and
    ``library`` (that of ``digest.cpp``).
    """
    job = json.loads(Path(os.environ["DIPTYCH_STATE"]).read_text())
    rows, columns = job["mesh"]
    drivers = [StreamDriver(dut, f"i__{r}", unsigned(HOST_LINE_BITS)) for r in range(rows)]
    for r in range(rows):
        getattr(dut, f"words__{r}__valid").value = 0
    await start_clock_and_reset(dut)
    for driver, words in zip(drivers, job["load"], strict=True):
        cocotb.start_soon(driver.send(host_lines(words)))
    handles = {
        (r, c, name): handle
        for r in range(rows)
        for c in range(columns)
        for name in job["names"]
        if (handle := find_handle(tile_body(dut.mesh[f"tile_{r}_{c}"]), name)) is not None
    }
    registers = {key: handle for key, handle in handles.items() if len(read_handle(handle)) == 1}
    digests = None
    if job["digests"]:
        parts = [(handle, name, r * columns + c) for (r, c, name), handle in registers.items()]
        digests = Digests(parts, rows * columns, job["library"])
    shown = {f"{r} {c} {name}": handle for (r, c, name), handle in handles.items()}
    names = sorted({name for _, _, name in registers})
    await write_states(dut, job, shown, names, digests)
