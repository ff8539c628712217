# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the decode panel: loads a compiled model and checks the tokens that come out."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge, SimTimeoutError, with_timeout
from cocotb.utils import get_sim_time

from diptych.mesh.host_port import LINE_WORDS, HostLine
from diptych_sim.compiler.decode_program import SEQUENCE_SHIFT
from diptych_tb.clocking import PERIOD_NS, start_clock_and_reset
from diptych_tb.events import report_event
from diptych_tb.fields import Fields
from diptych_tb.mesh.counters import MeshCounters
from diptych_tb.mesh.lanes import counter_of, mesh_of
from diptych_tb.mesh.watchdog import watch_mesh
from diptych_tb.recorder import MeshRecorder
from diptych_tb.streams import StreamDriver
from diptych_tb.waves import mark_start

WIDTH = Fields(HostLine()).width


def lines(words: list[int]) -> list[int]:
    """Pack words into host lines."""
    out = []
    for start in range(0, len(words), LINE_WORDS):
        part = words[start : start + LINE_WORDS]
        bits = int.from_bytes(b"".join(word.to_bytes(4, "little") for word in part), "little")
        out.append(bits | len(part) << 32 * LINE_WORDS)
    return out


def _cycle() -> int:
    return round(get_sim_time("ns")) // PERIOD_NS


@cocotb.test()
async def decodes(dut: Any) -> None:
    """Report each token, its sequence and its cycle.

    Cycles count from the reset. Decoding starts, as far as accounts go, when the mesh has taken
    all that it is loaded with; the first tokens, which it is loaded with, are those of that cycle.
    The tiles' counters are reported then and at the end.

    ``$DIPTYCH_JOB`` is a JSON file with ``load`` (words of each row), ``first`` (tokens, of each
    sequence), ``tokens`` (how many follow), ``limit`` (cycles that a token may take), ``trace``
    (None, or the plan of :class:`.MeshRecorder`, which then writes into ``folder``) and ``ends``
    (of rounds); and what :func:`.mesh_of` and :func:`.watch_mesh` ask for.
    """
    job = json.loads(Path(os.environ["DIPTYCH_JOB"]).read_text())
    rows = [StreamDriver(dut, f"i__{r}", unsigned(WIDTH)) for r in range(len(job["load"]))]
    mesh = mesh_of(dut.mesh, job)
    await start_clock_and_reset(dut)
    mark_start()
    watchdog = watch_mesh(dut, mesh, job)
    counters = MeshCounters(watchdog.tiles)
    recorder = None
    if job["trace"]:
        pc = counter_of(mesh, counters, job)
        recorder = MeshRecorder(counters, pc, Path(job["folder"]), job["trace"], job["ends"])
        recorder.start()
    sending = [
        cocotb.start_soon(driver.send(lines(words)))
        for driver, words in zip(rows, job["load"], strict=True)
    ]
    for task in sending:
        await task
    edge = RisingEdge(dut.clk)
    await edge  # now the last line is in the mesh
    report_event(kind="started", cycle=_cycle())

    def out(index: int, sequence: int, token: int) -> None:
        cycle = _cycle()
        report_event(kind="token", index=index, sequence=sequence, token=token, cycle=cycle)
        if recorder is not None:
            recorder.token(index, cycle)
        if index in (len(job["first"]) - 1, len(job["first"]) + job["tokens"] - 1):
            tiles = counters.read_tiles()
            report_event(kind="counters", index=index, cycle=cycle, tiles=tiles)

    for sequence, token in enumerate(job["first"]):
        out(sequence, sequence, token)
    rises = RisingEdge(dut.token_valid)
    limit = job["limit"] * PERIOD_NS
    for index in range(len(job["first"]), len(job["first"]) + job["tokens"]):
        try:
            await with_timeout(rises, limit, "ns")
        except SimTimeoutError:
            watchdog.stop(f"token {index} has not come within {job['limit']} cycles")
        await edge
        sequence, token = divmod(int(dut.token.value), 1 << SEQUENCE_SHIFT)
        out(index, sequence, token)
