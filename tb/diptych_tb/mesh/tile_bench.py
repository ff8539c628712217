# SPDX-License-Identifier: BSD-2-Clause
"""A tile between links, and small programs for it, loaded and observed through the links."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from diptych.mesh.fabric import Load, Port, header
from diptych.mesh.isa import STATISTIC, Function, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import sometimes
from diptych_tb.mesh.core_observer import CoreObserver
from diptych_tb.mesh.links import LinkMonitor, LinkSource

__all__ = [
    "COUNT",
    "IN",
    "OUT",
    "SIZE",
    "WIDTH",
    "A",
    "B",
    "Bench",
    "D",
    "Expected",
    "check_causes",
    "check_operation",
    "integers",
    "random_bytes",
    "scale_word",
    "send_memory",
    "send_registers",
    "sent_cycles",
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
WIDTH = {Type.INT8: 1, Type.INT16: 2, Type.INT32: 4}
"""Bytes of a type."""
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
        self.observer = CoreObserver(dut, COLORS)
        dut.x_in.value = 3
        dut.edge.value = 0
        for way in ("north", "south", "west"):
            getattr(dut, f"{way}_o__credit").value = 0
        self._sent = 0

    async def start(self) -> None:
        """Reset, and set the routes: ``OUT`` from the ramp to the east, ``IN`` to the ramp."""
        await start_clock_and_reset(self.dut)
        self.observer.start()
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

    def run(self, program: Assembler, *, task: int = 0) -> None:
        """Load a program, and activate it as a task."""
        self.load(Load.PROGRAM, 0, program.words())
        self.load(Load.TASK, task, [0])
        self.load(Load.ACTIVATE, task, [])

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
    program.scalar(Function.LESS_THAN, d=6, a=COUNT, imm=address + 4 * words)
    program.branch(6, label)


def send_registers(program: Assembler, registers: list[int]) -> None:
    """Append instructions that send registers, when all vector work has ended."""
    for register in registers:
        program.scalar(Function.SEND, a=register, color=OUT, fence_pipe=True, fence_receive=True)


async def check_causes(bench: Bench, *causes: str) -> None:
    """Check the counters of the core against its observer, and that some causes occurred."""
    found = await bench.observer.check()
    missing = [cause for cause in causes if not found.get(cause)]
    assert not missing, f"no cycle of {missing} in {found}"


def take_and_send(program: Assembler, add: int) -> None:
    """Append: take a wavelet from ``IN``, and send its data, plus ``add``, on ``OUT``."""
    program.scalar(Function.TAKE, d=2, color=IN)
    program.scalar(Function.SEND, a=2, imm=add, color=OUT)


def scale_word(rng: random.Random) -> int:
    """A scale word that keeps results of 16-bit values in range more often than not."""
    return rng.randrange(0x8000, 0x10000) | rng.randint(10, 22) << 16


def integers(rng: random.Random, count: int, bits: int) -> np.ndarray:
    """Integers of some bits, most of them small."""
    limit = 2 ** (bits - 1) - 1
    wide = rng.random() < 0.3
    return np.array(
        [
            rng.randint(-limit, limit) if wide else rng.randint(-limit, limit) >> 4
            for _ in range(count)
        ]
    )


Expected = list[int] | bytes
"""Words, or the bytes that they begin with."""
Operation = Callable[[Bench, Assembler, random.Random], tuple[Expected, int]]
"""Stores operands, appends an instruction; returns what the tile must send, and how many words."""


async def check_operation(
    dut: Any, name: str, operation: Operation, *, idle: float, stall: float
) -> None:
    """Run an operation with random operands, some times, against its golden model."""
    bench = await start_bench(dut, name, idle=idle, stall=stall)
    for turn in range(12):
        program = Assembler()
        # The operation's statistic comes after it, if it has one.
        program.scalar(Function.ADD, d=STATISTIC, imm=bench.rng.getrandbits(32))
        expected, words = operation(bench, program, bench.rng)
        program.scalar(Function.END)
        bench.run(program)
        got = await bench.receive(words)
        if isinstance(expected, bytes):
            raw = b"".join(word.to_bytes(4, "little") for word in got)
            assert raw[: len(expected)] == expected, f"{name}, turn {turn}: {program.lines[0]}"
            continue
        assert got == expected, f"{name}, turn {turn}: {program.lines[0]}"
    await check_causes(bench)
    assert int(dut.x_out.value) == 4


def sent_cycles(bench: Bench, first: int = 0) -> list[int]:
    """Return the cycles in which words left on ``OUT``, from one on."""
    return [wavelet["cycle"] for wavelet in bench.east.wavelets[OUT][first:]]


def random_bytes(rng: random.Random, count: int) -> np.ndarray:
    """Return signed bytes."""
    return np.array([rng.randint(-128, 127) for _ in range(count)])
