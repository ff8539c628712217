# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the prefill panel: writes down its state at chosen cycles, and digests in each."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb

from diptych_sim.engine.words.digest import WORDS
from diptych_sim.host.clocking import start_clock_and_reset

from .states import Digests, find_handle, read_handle, write_states


@cocotb.test()
async def writes_state(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_STATE``: a JSON file that says what to run, read and write.

    ``program`` (its address), ``names`` (registers and memories), ``cycles`` (since the end of
    reset, in order), ``out`` (a file for what was read), ``digests`` (a file for digests of all
    registers in each cycle up to the last, or None) and ``library`` (that of ``digest.cpp``).
    """
    job = json.loads(Path(os.environ["DIPTYCH_STATE"]).read_text())
    dut.start.value = 0
    dut.program.value = job["program"]
    dut.handoff__ready.value = 1
    dut.host__valid.value = 0
    await start_clock_and_reset(dut)
    handles = {name: find_handle(dut, name) for name in job["names"]}
    handles = {name: handle for name, handle in handles.items() if handle is not None}
    registers = {name: h for name, h in handles.items() if len(read_handle(h)) == 1}
    digests = None
    if job["digests"]:
        parts = [(handle, name, 0) for name, handle in registers.items()]
        digests = Digests(parts, 1, job["library"], WORDS)
    dut.start.value = 1

    def has_started() -> None:
        dut.start.value = 0

    await write_states(dut, job, handles, sorted(registers), digests, has_started)
