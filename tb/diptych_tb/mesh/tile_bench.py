# SPDX-License-Identifier: BSD-2-Clause
"""A tile between links, and small programs for it, loaded and observed through the links."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.core import CAUSES
from diptych.mesh.fabric import Load, Port, header
from diptych.mesh.isa import Function
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import sometimes
from diptych_tb.mesh.links import LinkMonitor, LinkSource

__all__ = [
    "COUNT",
    "IN",
    "OUT",
    "SIZE",
    "A",
    "B",
    "Bench",
    "D",
    "check_causes",
    "send_memory",
    "send_registers",
    "start_bench",
    "take_and_send",
]

COLORS = 10
OUT, IN = 1, 2
"""Colors of what the tile sends, and of what it is sent."""
A, B, D = 0x000, 0x800, 0x1000
"""Where operands and results lie; a result may have 1 KiB."""
COUNT = 5
"""Register of the loop that sends memory."""
SIZE = {1: np.int8, 2: np.int16, 4: np.int32}


class Bench:
    """A tile between a source in the west and a monitor in the east."""

    def __init__(self, dut: Any, rng: random.Random, idle: float = 0.0, stall: float = 0.0) -> None:
        self.dut = dut
        self.rng = rng
        self.west = LinkSource(dut, "west_i", COLORS, rng, sometimes(rng, idle))
        self.others = [
            LinkSource(dut, f"{way}_i", COLORS, rng) for way in ("north", "east", "south")
        ]
        self.east = LinkMonitor(dut, "east_o", COLORS, sometimes(rng, stall))
        dut.x_in.value = 3
        dut.edge.value = 0
        self._sent = 0

    async def start(self) -> None:
        """Reset, and set the routes: ``OUT`` from the ramp to the east, ``IN`` to the ramp."""
        await start_clock_and_reset(self.dut)
        self.west.start()
        self.east.start()
        ramp, west, east = 1 << Port.RAMP.value, 1 << Port.WEST.value, 1 << Port.EAST.value
        for color, sources, targets in ((OUT, ramp, east), (IN, west, ramp)):
            self.load(Load.ROUTE, color, [sources | targets << 5 | color << 12])
        # The route of loading: to the ramp, and not on to the east.
        self.load(Load.ROUTE, 0, [west | ramp << 5])

    def load(self, kind: Load, address: int, payload: list[int]) -> None:
        """Send a load packet."""
        words = header(kind, count=len(payload), first_column=3, last_column=3, address=address)
        self.send(0, [*words, *payload])

    def send(self, color: int, words: Any) -> None:
        """Send words on a color."""
        self.west.send({"data": int(w) % 2**32, "color": color, "control": 0} for w in words)

    def store(self, address: int, values: Any, width: int) -> None:
        """Load integers of ``width`` bytes into the SRAM."""
        raw = np.asarray(values).astype(SIZE[width]).tobytes()
        raw += bytes(-len(raw) % 4)
        self.load(Load.WORDS, address, np.frombuffer(raw, "<u4").tolist())

    def registers(self, values: dict[int, int]) -> None:
        """Load registers."""
        for register, value in values.items():
            self.load(Load.REGISTER, register, [value % 2**32])

    def run(self, program: Assembler) -> None:
        """Load a program, and activate it as task 0."""
        self.load(Load.PROGRAM, 0, program.words())
        self.load(Load.TASK, 0, [0])
        self.load(Load.ACTIVATE, 0, [])

    async def receive(self, count: int) -> list[int]:
        """Return the next ``count`` words that the tile sent."""
        got = self.east.wavelets[OUT]
        for _ in range(20_000):
            if len(got) >= self._sent + count:
                break
            await RisingEdge(self.dut.clk)
        else:
            raise AssertionError(f"tile sent {len(got) - self._sent} of {count} words")
        words = [w["data"] for w in got[self._sent : self._sent + count]]
        self._sent += count
        return words


async def start_bench(dut: Any, case: str = "", *, idle: float = 0.0, stall: float = 0.0) -> Bench:
    """Return a bench after its start; each case has random numbers of its own."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {case} {idle} {stall}")
    bench = Bench(dut, rng, idle, stall)
    await bench.start()
    return bench


def send_memory(program: Assembler, address: int, words: int, label: str = "memory") -> None:
    """Append a loop that sends words of the SRAM."""
    program.scalar(Function.ADD, d=COUNT, imm=address, fence_pipe=True, fence_receive=True)
    program.label(label)
    program.scalar(Function.LOAD, d=6, a=COUNT)
    program.scalar(Function.SEND, a=6, color=OUT)
    program.scalar(Function.ADD, d=COUNT, a=COUNT, imm=4)
    program.scalar(Function.BELOW, d=6, a=COUNT, imm=address + 4 * words)
    program.branch(6, label)


def send_registers(program: Assembler, registers: list[int]) -> None:
    """Append instructions that send registers, when all vector work has ended."""
    for register in registers:
        program.scalar(Function.SEND, a=register, color=OUT, fence_pipe=True, fence_receive=True)


async def check_causes(dut: Any) -> None:
    """Check that the causes sum to the cycles, over a stretch of time."""
    core = dut.core
    names = [getattr(core, f"count_{cause}") for cause in CAUSES]
    await RisingEdge(dut.clk)
    before = sum(int(name.value) for name in names)
    await ClockCycles(dut.clk, 100)
    assert sum(int(name.value) for name in names) - before == 100


def take_and_send(program: Assembler, add: int) -> None:
    """Append: take a wavelet from ``IN``, and send its data, plus ``add``, on ``OUT``."""
    program.scalar(Function.TAKE, d=2, color=IN)
    program.scalar(Function.SEND, a=2, imm=add, color=OUT)
