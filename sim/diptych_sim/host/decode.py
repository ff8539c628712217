# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the decode panel: loads a compiled model and checks the tokens that come out."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge, SimTimeoutError, with_timeout

from diptych.mesh.host_port import LINE_WORDS, HostLine
from diptych_sim.compiler.decode.program import SEQUENCE_SHIFT
from diptych_sim.host.checkpoints import LOOK, kept_run
from diptych_sim.host.clocking import PERIOD_NS, current_cycle, start_clock_and_reset
from diptych_sim.host.events import report_event
from diptych_sim.host.fields import Fields
from diptych_sim.host.lanes_cosim import counter_of, mesh_of
from diptych_sim.host.mesh_counters import MeshCounters
from diptych_sim.host.recorder import MeshRecorder
from diptych_sim.host.streams import StreamDriver
from diptych_sim.host.watchdog import watch_mesh
from diptych_sim.host.wave_marks import mark_start

WIDTH = Fields(HostLine()).width


def lines(words: list[int]) -> list[int]:
    """Pack words into host lines."""
    out = []
    for start in range(0, len(words), LINE_WORDS):
        part = words[start : start + LINE_WORDS]
        bits = int.from_bytes(b"".join(word.to_bytes(4, "little") for word in part), "little")
        out.append(bits | len(part) << 32 * LINE_WORDS)
    return out


@cocotb.test()
async def decodes(dut: Any) -> None:
    """Report each token, its sequence and its cycle.

    Cycles count from the reset. Decoding starts, as far as accounts go, when the mesh has taken
    all that it is loaded with; the first tokens, which it is loaded with, are those of that cycle.
    The tiles' counters are reported then and at the end.

    ``$DIPTYCH_JOB`` is a JSON file with ``load`` (words of each row), ``first`` (tokens, of each
    sequence), ``tokens`` (how many follow), ``limit`` (cycles that a token may take), ``trace``
    (None, or the plan of :class:`.MeshRecorder`, which then writes into ``folder``) and ``ends``
    (of rounds); and what :func:`.mesh_of`, :func:`.watch_mesh` and :func:`.kept_run` ask for.
    """
    job = json.loads(Path(os.environ["DIPTYCH_JOB"]).read_text())
    rows = [StreamDriver(dut, f"i__{r}", unsigned(WIDTH)) for r in range(len(job["load"]))]
    mesh = mesh_of(dut.mesh, job)
    kept = kept_run(mesh, job)
    before = kept.notes if kept is not None else None
    await start_clock_and_reset(dut)
    mark_start()
    watchdog = watch_mesh(dut, mesh, job)
    counters = MeshCounters(watchdog.tiles)
    recorder = None
    if job["trace"]:
        pc = counter_of(mesh, counters, job)
        recorder = MeshRecorder(counters, pc, Path(job["folder"]), job["trace"], job["ends"])
    edge = RisingEdge(dut.clk)
    came = last = 0

    def out(sequence: int, token: int) -> None:
        nonlocal came, last
        index, last = came, current_cycle()
        came += 1
        report_event(kind="token", index=index, sequence=sequence, token=token, cycle=last)
        if recorder is not None:
            recorder.token(index, last)
        if index in (len(job["first"]) - 1, len(job["first"]) + job["tokens"] - 1):
            tiles = counters.read_tiles()
            report_event(kind="counters", index=index, cycle=last, tiles=tiles)

    if before is None:
        if recorder is not None:
            recorder.start()
        sending = [
            cocotb.start_soon(driver.send(lines(words)))
            for driver, words in zip(rows, job["load"], strict=True)
        ]
        for task in sending:
            await task
        await edge  # now the last line is in the mesh
        report_event(kind="started", cycle=current_cycle())
        for sequence, token in enumerate(job["first"]):
            out(sequence, token)
    else:
        came = before["tokens"]
        if kept is not None and recorder is not None:
            recorder.resume(before["recorder"], kept.files)
    if kept is not None:
        kept.start(
            dut,
            lambda: current_cycle() - last > LOOK,
            lambda: {"tokens": came, "recorder": recorder and recorder.state()},
            lambda: recorder.files() if recorder is not None else {},
        )
    rises = RisingEdge(dut.token_valid)
    limit = job["limit"] * PERIOD_NS
    while came < len(job["first"]) + job["tokens"]:
        try:
            await with_timeout(rises, limit, "ns")
        except SimTimeoutError:
            watchdog.stop(f"token {came} has not come within {job['limit']} cycles")
        await edge
        out(*divmod(int(dut.token.value), 1 << SEQUENCE_SHIFT))
