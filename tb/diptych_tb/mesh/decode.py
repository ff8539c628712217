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
from diptych_tb.mesh.watchdog import tile_counters, watch_mesh
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
    """Report each token, its sequence and its cycle, and at the end the tiles' counters.

    ``$DIPTYCH_JOB`` is a JSON file with ``load`` (words of each row), ``tokens`` (how many),
    ``limit`` (cycles that a token may take), and what :func:`.watch_mesh` asks for.
    """
    job = json.loads(Path(os.environ["DIPTYCH_JOB"]).read_text())
    rows = [StreamDriver(dut, f"i__{r}", unsigned(WIDTH)) for r in range(len(job["load"]))]
    await start_clock_and_reset(dut)
    mark_start()
    watchdog = watch_mesh(dut, dut.mesh, job)
    for driver, words in zip(rows, job["load"], strict=True):
        cocotb.start_soon(driver.send(lines(words)))
    edge = RisingEdge(dut.clk)
    rises = RisingEdge(dut.token_valid)
    limit = job["limit"] * PERIOD_NS
    for index in range(job["tokens"]):
        try:
            await with_timeout(rises, limit, "ns")
        except SimTimeoutError:
            watchdog.stop(f"token {index} has not come within {job['limit']} cycles")
        await edge
        sequence, token = divmod(int(dut.token.value), 1 << SEQUENCE_SHIFT)
        report_event(kind="token", index=index, sequence=sequence, token=token, cycle=_cycle())
    report_event(kind="counters", tiles=tile_counters(watchdog.tiles))
