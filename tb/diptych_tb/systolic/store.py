# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the engine that hands off: random commands of every op."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.systolic.isa import STORE, Handoff, HandoffKind, Queue, StoreOp
from diptych_tb.clocking import start_clock_and_reset
from diptych_tb.streams import StreamChecker, StreamDriver, StreamMonitor

LINE = int(os.environ["DUT_LINE"])
SIZE = 2**13
OPS = (StoreOp.KEYS, StoreOp.VALUES, StoreOp.TOKEN)


async def _read(dut: Any, memory: bytes, pause: Any) -> None:
    """Answer reads a cycle after they were accepted, and show garbage in any other cycle."""
    rng = random.Random(1)
    while True:
        ready = not (pause and pause())
        dut.scratchpad__ready.value = ready
        await RisingEdge(dut.clk)
        line = rng.randbytes(LINE)
        if ready and dut.scratchpad__en.value:
            at = int(dut.scratchpad__address.value) * LINE
            line = memory[at : at + LINE]
        dut.scratchpad__data.value = int.from_bytes(line, "little")


def _command(rng: random.Random) -> dict[str, Any]:
    rows = rng.choice([1, 2, 7])
    size = 4 * rng.choice([1, 2, LINE // 4, LINE // 2, rng.randint(1, 40)])
    pitch = LINE * (-(-size // LINE) + rng.randrange(2))
    last = (SIZE - rows * pitch) // LINE
    fields = {
        "bytes": size,
        "rows": rows,
        "source": LINE * rng.randint(0, last),
        "source2": LINE * rng.randint(0, last),
        "source_pitch": pitch,
        "layer": rng.randrange(256),
        "first": rng.randrange(2**15),
    }
    head = {"queue": Queue.STORE.value, "op": rng.choice(OPS).value, "end": 0, "spare": 0}
    return {str(name): 0 for name, _ in STORE} | fields | {"head": head}


def _expected(command: dict[str, Any], memory: bytes, token: int) -> list[dict[str, int]]:
    op = StoreOp(command["head"]["op"])
    kind = HandoffKind[op.name]
    common = {"kind": kind.value, "layer": command["layer"]}
    if op is StoreOp.TOKEN:
        return [common | {"data": token, "position": command["first"], "last": 1}]
    out = []
    for row in range(command["rows"]):
        planes = [command["source"], command["source2"]][: 2 if op is StoreOp.KEYS else 1]
        places = [
            plane + row * command["source_pitch"] + at
            for plane in planes
            for at in range(0, command["bytes"], 4)
        ]
        for place in places:
            word = int.from_bytes(memory[place : place + 4], "little")
            position = command["first"] + row
            last = int(place == places[-1])
            out.append(common | {"data": word, "position": position, "last": last})
        # Two planes may be one: only the final word is the last.
        for beat in out[-len(places) : -1]:
            beat["last"] = 0
    return out


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def hands_off_what_it_reads(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    memory = rng.randbytes(SIZE)
    driver = StreamDriver(dut, "i", STORE)
    dut.scratchpad__ready.value = 0
    dut.token.value = token = rng.randrange(2**32)
    await start_clock_and_reset(dut)
    pause = (lambda: rng.random() < stall) if stall else None
    monitor = StreamMonitor(dut, "o", Handoff(), pause)
    StreamChecker(dut, "o", Handoff())
    cocotb.start_soon(_read(dut, memory, (lambda: rng.random() < idle) if idle else None))
    for _ in range(30):
        command = _command(rng)
        await driver.send([command])
        while not dut.done.value:
            await RisingEdge(dut.clk)
        got = [monitor.beats.get_nowait() for _ in range(monitor.beats.qsize())]
        assert got == _expected(command, memory, token), {k: v for k, v in command.items() if v}
        await ClockCycles(dut.clk, rng.randrange(3) + 1)
