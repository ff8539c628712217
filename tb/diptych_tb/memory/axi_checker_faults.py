# SPDX-License-Identifier: BSD-2-Clause
"""Shows that the AXI checkers let good traffic pass and see each fault that is planted in it.

The design is nothing but wires: every signal of a port is driven from here, cycle by cycle.
"""

import re
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from diptych.memory.axi import ReadAddress, ReadData, WriteAddress, WriteData, WriteResponse
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.fields import Fields

CHANNELS = {
    "ar": Fields(ReadAddress()),
    "r": Fields(ReadData()),
    "aw": Fields(WriteAddress()),
    "w": Fields(WriteData()),
    "b": Fields(WriteResponse()),
}
Cycle = dict[str, Any]
"""By channel: its payload; a channel that is not named is idle. ``wait``: channels not ready."""


def ask(channel: str = "ar", **fields: int) -> Cycle:
    return {channel: {"addr": 0x1000, "len": 1, "id": 2} | fields}


def beat(number: int, last: int, **fields: int) -> Cycle:
    return {"r": {"data": number, "last": last, "id": 2} | fields}


def write(number: int, last: int) -> Cycle:
    return {"w": {"data": number, "strb": 2**64 - 1, "last": last}}


def answer(**fields: int) -> Cycle:
    return {"b": {"resp": 0, "id": 2} | fields}


def held(cycle: Cycle) -> Cycle:
    return cycle | {"wait": tuple(cycle)}


IDLE: Cycle = {}
READS = [ask(), IDLE, held(beat(7, 0)), beat(7, 0), beat(8, 1), ask(len=0, id=1), beat(9, 1, id=1)]
WRITES = [ask("aw"), write(1, 0), held(write(2, 1)), write(2, 1), IDLE, answer()]
TOGETHER = [ask("aw", len=0) | write(1, 1), answer()]
FAULTS: dict[str, tuple[list[Cycle], str]] = {
    "valid_withdrawn": ([held(ask()), IDLE], "AR: valid must stay until ready"),
    "payload_changed": (
        [ask(), held(beat(7, 0)), beat(6, 0)],
        "R: payload must stay until ready, but ",
    ),
    "burst_too_long": ([ask(len=16)], "burst must have at most 16 beats, not 17"),
    "address_not_aligned": ([ask(addr=0x1020)], "address must be a multiple of 64, not 0x1020"),
    "page_crossed": ([ask(addr=0x1FC0)], "burst of 2 beats at 0x1fc0 crosses 4 KiB"),
    "page_crossed_by_write": ([ask("aw", addr=0xFC0)], "burst of 2 beats at 0xfc0 crosses 4 KiB"),
    "answer_to_nothing": ([IDLE, beat(7, 1)], "R must answer a burst"),
    "answer_too_soon": ([ask() | beat(7, 0), IDLE], "R must "),
    "last_too_early": ([ask(), beat(7, 1)], "R has last 1, 2 beats are left"),
    "last_missing": ([ask(), beat(7, 0), beat(8, 0)], "R has last 0, 1 beats are left"),
    "beat_too_many": ([ask(len=0), beat(7, 1), beat(8, 1)], "R must answer a burst"),
    "wrong_read_id": ([ask(), beat(7, 0, id=1)], "R must have id 2, not 1"),
    "reads_out_of_order": ([ask(), ask(id=1), beat(7, 0, id=1)], "R must have id 2, not 1"),
    "read_not_answered": ([ask(), beat(7, 0)], "1 bursts are not answered"),
    "beats_before_their_burst": ([write(1, 0), ask("aw"), IDLE], "W must not come before its AW"),
    "last_write_too_early": ([ask("aw"), write(1, 1)], "W has last 1, 2 beats are left"),
    "last_write_missing": (
        [ask("aw"), write(1, 0), write(2, 0)],
        "W has last 0, 1 beats are left",
    ),
    "response_to_nothing": ([ask("aw"), answer()], "B must answer a burst that was written"),
    "response_before_the_last_beat": (
        [ask("aw"), write(1, 0), answer()],
        "B must answer a burst that was written",
    ),
    "response_too_soon": ([ask("aw", len=0), write(1, 1) | answer()], "B must "),
    "response_twice": (
        [ask("aw", len=0), write(1, 1), answer(), answer()],
        "B must answer a burst that was written",
    ),
    "wrong_write_id": ([ask("aw", len=0), write(1, 1), answer(id=0)], "B must have id 2, not 0"),
    "error_response": ([ask("aw", len=0), write(1, 1), answer(resp=2)], "B must be OKAY, not 2"),
    "write_not_answered": ([ask("aw", len=0), write(1, 1)], "1 bursts are not written or not"),
}


async def _play(dut: Any, cycles: list[Cycle]) -> None:
    for channel in CHANNELS:
        dut[f"axi__{channel}__valid"].value = 0
    await start_clock_and_reset(dut)
    checkers = [AxiReadChecker(dut, "axi"), AxiWriteChecker(dut, "axi")]
    for cycle in [*cycles, IDLE, IDLE]:
        for channel, fields in CHANNELS.items():
            dut[f"axi__{channel}__valid"].value = channel in cycle
            dut[f"axi__{channel}__ready"].value = channel not in cycle.get("wait", ())
            if channel in cycle:
                dut[f"axi__{channel}__payload"].value = fields.pack(cycle[channel])
        await RisingEdge(dut.clk)
    for checker in checkers:
        checker.check_finished()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(cycles=[READS, WRITES, TOGETHER, READS + WRITES + READS])
async def lets_good_traffic_pass(dut: Any, cycles: list[Cycle]) -> None:
    await _play(dut, cycles)


def _planted(name: str) -> Any:
    cycles, message = FAULTS[name]

    @cocotb.xfail(raises=pytest.RaisesExc(AssertionError, match=re.escape(message)))
    @cocotb.test(name=name, timeout_time=100, timeout_unit="us")
    async def sees(dut: Any) -> None:
        await _play(dut, cycles)

    return sees


for _name in FAULTS:
    globals()[f"sees_{_name}"] = _planted(_name)
