# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the prefill panel with its HBM: runs a program and checks what it hands off."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge, with_timeout

from diptych.systolic.isa import Handoff
from diptych_sim.host.axi_checker import AxiReadChecker
from diptych_sim.host.clocking import PERIOD_NS, current_cycle, start_clock_and_reset
from diptych_sim.host.command_recorder import CommandRecorder
from diptych_sim.host.events import report_event
from diptych_sim.host.streams import StreamDriver, StreamMonitor, sometimes


@cocotb.test()
async def hands_off_what_the_golden_model_computes(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_PREFILL``.

    A JSON file with ``hbm`` (hexadecimal), ``program``, ``limit`` (cycles), ``stall``
    (probability that a word is not taken) and ``handoff``: lists of kind, layer, prompt, position, words.
    """
    job = json.loads(Path(os.environ["DIPTYCH_PREFILL"]).read_text())
    hbm = bytes.fromhex(job["hbm"])
    width = len(dut.host__payload)
    rng = random.Random(cocotb.RANDOM_SEED)
    stall = job["stall"]
    host = StreamDriver(dut, "host", unsigned(width))
    dut.start.value = 0
    dut.program.value = job["program"]
    await start_clock_and_reset(dut)
    pause = sometimes(rng, stall)
    monitor = StreamMonitor(dut, "handoff", Handoff(), pause)
    await host.send(
        int.from_bytes(hbm[at : at + 64], "little") | at // 64 << 512
        for at in range(0, len(hbm), 64)
    )
    reads = AxiReadChecker(dut.hbm, "axi")
    recorder = CommandRecorder(dut.panel)
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    started = current_cycle()
    report_event(kind="started", cycle=started)
    for kind, layer, prompt, position, words in job["handoff"]:
        what = ("keys", "values", "token")[kind]
        where = f"{what} of layer {layer}, prompt {prompt}, position {position}"
        for index, expected in enumerate(words):
            beat = await with_timeout(monitor.beats.get(), job["limit"] * PERIOD_NS, "ns")
            place = tuple(beat[name] for name in ("kind", "layer", "prompt", "position"))
            assert place == (kind, layer, prompt, position), f"{where} must come now, not {place}"
            assert beat["data"] == expected, (
                f"{where}, word {index} must be {expected:#x}, not {beat['data']:#x}"
            )
            assert beat["last"] == (index == len(words) - 1), f"{where}: wrong end"
        if position == 0 or kind == 2:
            report_event(kind="handoff", what=where, cycle=current_cycle() - started)
    if not dut.finished.value:
        await RisingEdge(dut.finished)
    report_event(kind="finished", cycle=current_cycle() - started)
    await RisingEdge(dut.clk)
    reads.check_finished()
    report_event(kind="commands", cycles=recorder.cycles, entered=recorder.entered)
