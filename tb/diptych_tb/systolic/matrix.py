# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the matrix engine: random commands between memories that are modelled here."""

import os
import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych.systolic.isa import MATRIX, Causal, Modes, Queue, Start
from diptych.systolic.matrix import MATRIX_CAUSES, WAITED
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.fields import Fields
from diptych_sim.host.observers.matrix import MatrixObserver
from diptych_sim.host.observers.ports import CommandPorts
from diptych_sim.host.streams import Pause, StreamDriver, sometimes

ROWS = int(os.environ["DUT_ROWS"])
COLUMNS = int(os.environ["DUT_COLUMNS"])
LINE = max(ROWS, COLUMNS)
GROUP = int(os.environ["DUT_WEIGHT_ROWS"])
SIZE = int(os.environ["DUT_SCRATCHPAD"])
ENTRIES = int(os.environ["DUT_ACCUMULATORS"])
AMOUNTS = (
    "count_macs",
    "bytes_scratchpad_read",
    "bytes_accumulator_read",
    "bytes_accumulator_write",
)
PACK_MODES = Fields(Modes()).pack
BLANK_MODES = {str(name): 0 for name, _ in Modes()}
BLANK = {str(name): 0 for name, _ in MATRIX} | {
    "head": {"queue": Queue.MATRIX.value, "op": 0, "end": 0, "spare": 0}
}


@dataclass
class Command:
    """Fields of a command; addresses in bytes, ``x_other`` and ``w_other`` in lines."""

    places: dict[str, int]
    k: int
    n: int
    rows: int
    first: int
    modes: dict[str, int]
    x_other: int = 0
    w_other: int = 0
    tiles: list[int] = field(default_factory=list)
    """Rows that each tile of weights sees, as the model found them."""
    macs: int = 0

    def beat(self) -> dict[str, Any]:
        return (
            BLANK
            | self.places
            | {
                "tiles": self.k | self.n << 16,
                "rows": self.rows | self.x_other << 16,
                "first": self.first | self.w_other << 16,
                "modes": PACK_MODES(self.modes),
            }
        )

    @property
    def load_cycles(self) -> int:
        """Lines of a tile of weights."""
        if self.modes["packed"]:
            return ROWS // GROUP
        return COLUMNS if self.modes["transposed"] else ROWS

    def slack(self) -> int:
        """Cycles that the contract leaves open."""
        return int(self.load_cycles == 4 or min(ROWS, COLUMNS) == 4)

    def lone_cycles(self) -> int:
        """From taken to done, when every read is granted: the contract of the engine."""
        load = self.load_cycles
        hidden = sum(max(rows, load) for rows in self.tiles[:-1])
        return load + hidden + self.tiles[-1] + ROWS + COLUMNS + 4


def draw(rng: random.Random, *, rows: int | None = None, plain: bool = False) -> Command:
    """Draw a command. A plain one has no causal skipping, which makes tiles shorter."""
    transposed = rng.randrange(2)
    unit = ROWS if transposed else COLUMNS

    def place(unit: int) -> int:
        # Beyond the memory as well: addresses wrap.
        return unit * rng.randrange(2 * SIZE // unit)

    places = {name: place(ROWS) for name in ("x", "x_row", "x_k")}
    places |= {name: place(unit) for name in ("w", "w_row", "w_k", "w_n")}
    if rng.random() < 0.5:  # as compilers lay them out
        places |= {"x_row": 2 * LINE, "x_k": ROWS, "w_row": LINE}
    packed = int(not transposed and rng.random() < 0.5)
    if packed:
        places |= {name: place(GROUP * LINE) for name in ("w", "w_k", "w_n")} | {"w_row": LINE}
    if rows is None:
        rows = rng.choice([1, 2, ROWS, LINE + 1, rng.randint(1, 3 * LINE)])
    places |= {"sums": rng.randrange(2 * ENTRIES), "sums_n": rng.choice([0, rows, ENTRIES - 3])}
    first_row = rng.choice([0, 0, rng.randrange(ROWS)])
    causal = Causal.NO if plain else rng.choice(list(Causal))
    planes = int(rng.random() < 0.4)
    start = rng.choice(list(Start))
    end_row = rng.choice([ROWS, rng.randint(first_row, ROWS), min(255, ROWS + 3)])
    if planes and start is Start.ADD:
        half = 2 ** rng.randrange(ROWS.bit_length() - 1)
        first_row = half * rng.randrange(ROWS // half)
        end_row = first_row + half
    modes = BLANK_MODES | {
        "first_row": first_row,
        "end_row": end_row,
        "end_column": rng.choice([0, rng.randint(1, COLUMNS)]),
        "causal": causal.value,
        "start": start.value,
        "transposed": transposed,
        "planes": planes,
        "packed": packed,
    }
    return Command(
        places=places,
        k=rng.randint(1, 4),
        n=rng.randint(1, 4),
        rows=rows,
        first=rng.choice([0, 1, rng.randrange(2 * LINE), 2**16 - 1]),
        modes=modes,
        x_other=rng.randrange(2**16) if planes else 0,
        w_other=GROUP * rng.randrange(2**16 // GROUP) if planes else 0,
    )


def run(command: Command, scratchpad: np.ndarray, entries: np.ndarray) -> None:
    """Add into the entries what the command adds, and note its tiles: the golden model."""
    modes, places = command.modes, command.places
    valid_rows = range(modes["first_row"], min(modes["end_row"], ROWS))
    products = [(0, 0, modes["start"], valid_rows)]
    if modes["planes"]:
        products = [
            (0, 0, Start.OVERWRITE.value, valid_rows),
            (0, command.w_other * LINE, Start.ADD_TO_HIGH.value, valid_rows),
            (command.x_other * LINE, 0, Start.ADD.value, valid_rows),
        ]
        if modes["start"] == Start.ADD.value:
            pair = valid_rows.start // (2 * len(valid_rows)) * 2 * len(valid_rows)
            both = range(pair, pair + 2 * len(valid_rows))
            products = [products[0], (*products[1][:3], both)]

    def piece(address: int, size: int) -> np.ndarray:
        return scratchpad[address % SIZE : address % SIZE + size]

    for j in range(command.n):
        end_column = modes["end_column"] if j == command.n - 1 else 0
        columns = end_column or COLUMNS
        for x_plane, w_plane, start, valid_rows in products:
            for k in range(command.k):
                at = places["w"] + w_plane + k * places["w_k"] + j * places["w_n"]
                if modes["transposed"]:
                    lines = [piece(at + c * places["w_row"], ROWS) for c in range(COLUMNS)]
                    tile = np.array(lines).T
                else:
                    tile = np.array([piece(at + r * places["w_row"], COLUMNS) for r in range(ROWS)])
                tile = (tile + 128) % 256 - 128  # weights are bytes
                tile[:, columns:] = 0
                for r in set(range(ROWS)) - set(valid_rows):
                    tile[r] = 0
                position = {Causal.NO: 0, Causal.BY_N: j * COLUMNS, Causal.BY_K: k * ROWS}
                skip = max(0, position[Causal(modes["causal"])] - command.first)
                if skip >= command.rows:
                    continue
                command.tiles.append(command.rows - skip)
                command.macs += (command.rows - skip) * len(valid_rows) * columns
                for m in range(skip, command.rows):
                    at = places["x"] + x_plane + m * places["x_row"] + k * places["x_k"]
                    x = piece(at, ROWS)
                    entry = entries[(places["sums"] + j * places["sums_n"] + m) % ENTRIES]
                    entry *= {0: 0, 1: 1, 2: 256}[start if k == 0 else 1]
                    entry += x @ tile
                    entry &= 0xFFFFFFFF


class Bench:
    """The memories around the engine, and what was seen of it.

    ``entries`` holds what the engine's sums made of the accumulators; ``expected`` has, for each
    command that was sent, what they must be at its ``done``.
    """

    def __init__(self, dut: Any, rng: random.Random, pauses: dict[str, Pause | None]) -> None:
        self.dut = dut
        self.rng = rng
        self.driver = StreamDriver(dut, "i", MATRIX, pauses.get("i"))
        self.pauses = pauses
        top = 2 ** (ACTIVATION_BITS - 1)
        self.scratchpad = np.array([rng.randrange(-top, top) for _ in range(SIZE)])
        self.entries = np.array(
            [[rng.randrange(2**32) for _ in range(COLUMNS)] for _ in range(ENTRIES)]
        )
        self.model = self.entries.copy()
        self.expected: list[np.ndarray] = []
        self.cycle = 0
        self.taken: list[int] = []
        self.done: list[int] = []
        self.observer = MatrixObserver(
            dut, dut.clk, CommandPorts.of_engine(dut), rows=ROWS, columns=COLUMNS, weight_rows=GROUP
        )
        self.amounts = dict.fromkeys(AMOUNTS, 0)
        self.sums_before = False
        dut.waits.value = 0
        for name in ("x", "w"):
            dut[f"{name}__ready"].value = 0

    async def start(self) -> None:
        await start_clock_and_reset(self.dut)
        cocotb.start_soon(self._read("x"))
        cocotb.start_soon(self._read("w"))
        cocotb.start_soon(self._watch())
        self.observer.start()
        await RisingEdge(self.dut.clk)
        self.before = self.counters()

    def counters(self) -> dict[str, int]:
        names = [f"count_{cause}" for cause in MATRIX_CAUSES] + list(AMOUNTS)
        return {name: int(self.dut[name].value) for name in names} | {"cycle": self.cycle}

    def gained(self) -> dict[str, int]:
        now = self.counters()
        return {name: now[name] - self.before[name] for name in now}

    async def run(self, commands: list[Command]) -> None:
        """Send commands, each of whose sums must equal the model's when it is done.

        Returns in the second cycle after the last ``done``, with all counters up to date.
        """
        for command in commands:
            run(command, self.scratchpad, self.model)
            self.expected.append(self.model.copy())
            self.amounts["count_macs"] += command.macs
        await self.driver.send([command.beat() for command in commands])
        while len(self.done) < len(self.expected):
            await RisingEdge(self.dut.clk)

    async def _read(self, name: str) -> None:
        """Answer reads a cycle after they were accepted, and show garbage in any other cycle."""
        enable, address, ready, answer = (
            self.dut[f"{name}__{part}"] for part in ("en", "address", "ready", "data")
        )
        pause = self.pauses.get(name)
        edge = RisingEdge(self.dut.clk)
        while True:
            grants = not (pause and pause())
            ready.value = grants
            await edge
            size, bits = (GROUP * LINE, 8) if name == "w" else (LINE, ACTIVATION_BITS)
            line = self.rng.getrandbits(size * bits)
            if grants and enable.value:
                at = int(address.value) * size
                values = self.scratchpad[at : at + size].tolist()
                line = sum(v % 2**bits << bits * n for n, v in enumerate(values))
            answer.value = line

    async def _watch(self) -> None:
        dut = self.dut
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            self.cycle += 1
            if self.rng.random() < 0.1:
                dut.waits.value = self.rng.getrandbits(len(WAITED)) & self.rng.getrandbits(
                    len(WAITED)
                )
            takes = bool(self.driver.valid.value and dut.i__ready.value)
            if takes:
                self.taken.append(self.cycle)
            if dut.done.value:
                number = len(self.done)
                assert self.sums_before, f"command {number}: done without a sum before"
                assert number < len(self.expected), f"done of command {number}, which is none"
                wrong = np.argwhere((self.entries != self.expected[number]).any(axis=1))
                assert not len(wrong), f"command {number}: entries {wrong.ravel()} are wrong"
                self.done.append(self.cycle)
            self.sums_before = bool(dut.sums__en.value)
            if self.sums_before:
                self._add()

    def _add(self) -> None:
        dut = self.dut
        start = int(dut.sums__start.value)
        addends = int(dut.sums__data.value).to_bytes(4 * COLUMNS, "little")
        entry = self.entries[int(dut.sums__address.value)]
        entry *= {0: 0, 1: 1, 2: 256}[start]
        entry += np.frombuffer(addends, dtype="<u4")
        entry &= 0xFFFFFFFF
        self.amounts["bytes_accumulator_write"] += 4 * COLUMNS
        self.amounts["bytes_accumulator_read"] += 4 * COLUMNS * (start != 0)

    async def check_counters(self, commands: list[Command]) -> None:
        """Compare the counters with what the commands and the ports say."""
        await self.observer.check()
        gained = self.gained()
        # Reads ahead of a command are none, so the bytes follow from the commands.
        self.amounts["bytes_scratchpad_read"] = sum(
            ROWS * ACTIVATION_BITS // 8 * sum(command.tiles) + ROWS * COLUMNS * len(command.tiles)
            for command in commands
        )
        for name in AMOUNTS:
            assert gained[name] == self.amounts[name], name


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.98], stall_x=[0.0, 0.6], stall_w=[0.0, 0.6])
async def sums_equal_the_model(dut: Any, idle: float, stall_x: float, stall_w: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    shares = {"i": idle, "x": stall_x, "w": stall_w}
    bench = Bench(dut, rng, {name: sometimes(rng, share) for name, share in shares.items()})
    await bench.start()
    commands = [draw(rng) for _ in range(25)]
    await bench.run(commands)
    await bench.check_counters(commands)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def lone_commands_take_the_promised_cycles(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = Bench(dut, rng, {})
    await bench.start()
    commands = [draw(rng, plain=rng.random() < 0.5) for _ in range(40)]
    for number, command in enumerate(commands):
        before = bench.gained()
        await bench.run([command])
        cycles = bench.done[number] - bench.taken[number] + 1
        late = cycles - command.lone_cycles()
        assert late in range(command.slack() + 1), (command.tiles, command.modes)
        now = bench.gained()
        spent = {cause: now[f"count_{cause}"] - before[f"count_{cause}"] for cause in MATRIX_CAUSES}
        load = command.load_cycles
        exposed = sum(max(0, load - rows) for rows in command.tiles[:-1])
        assert spent["shifting_weights"] == load + exposed
        assert spent["waiting_activations"] <= command.slack()
    await bench.check_counters(commands)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def weights_of_the_next_command_load_behind_the_rows(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = Bench(dut, rng, {})
    await bench.start()
    commands = [draw(rng, rows=LINE + rng.randint(4, 9), plain=True) for _ in range(8)]
    await bench.run(commands)
    await bench.check_counters(commands)
    # Only the first tile of all has to be waited for.
    first = commands[0]
    rows = sum(sum(command.tiles) for command in commands)
    start = first.lone_cycles() - sum(max(tile, first.load_cycles) for tile in first.tiles)
    late = bench.done[-1] - bench.taken[0] + 1 - start - rows
    assert late in range(sum(command.slack() for command in commands) + 1)
