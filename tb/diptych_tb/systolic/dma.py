# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the engine that loads: random commands of every target."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import LOAD, TABLE_WORDS, Queue, Target
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.host.axi_checker import AxiReadChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.observers.load import LoadObserver
from diptych_sim.host.observers.ports import CommandPorts
from diptych_sim.host.streams import StreamDriver, sometimes
from diptych_tb.memory.axi import AxiReadMemory

HBM = 2**17


def sizes_of_environment() -> VectorSizes:
    """Return the sizes that the test chose."""
    return VectorSizes(
        lanes=int(os.environ["DUT_LANES"]),
        line=int(os.environ["DUT_LINE"]),
        scratchpad=2**14,
        vectors=64,
        parameters=64,
        rows=64,
        biases=64,
    )


PORTS = {
    Target.SCRATCHPAD: "scratchpad",
    Target.GATHER: "scratchpad",
    Target.DENSE: "scratchpad",
    Target.DENSE_WIDE: "scratchpad",
    Target.PARAMETERS: "parameters",
    Target.VECTOR: "vectors",
    Target.BIASES: "biases",
    Target.DYNAMIC: "dynamic",
    Target.GATHER_DYNAMIC: "dynamic",
    Target.PICK_DYNAMIC: "dynamic",
}
ELEMENT_BYTES = {Target.DENSE: 1, Target.DENSE_WIDE: 2}
"""Of an element, where pieces follow each other."""
TABLE = 64 * 1024
"""Where the words of the table come from: each LOAD of the table brings the same."""

Write = tuple[str, int, int]
"""A port, an entry, and which of its elements."""


class _Memories:
    """Takes the writes of all ports, some of them late."""

    def __init__(self, dut: Any, sizes: VectorSizes, pause: Any) -> None:
        self.written: dict[Write, int] = {}
        self.writes = 0
        self._clk = dut.clk
        self._pause = pause
        self._ports = []
        for name, bits, step, count in (
            ("scratchpad", ACTIVATION_BITS, ACTIVATION_BITS, BEAT_BYTES),
            ("parameters", 22, 22, sizes.lanes),
            ("vectors", 32, 32, sizes.lanes),
            ("dynamic", 22, 22, 1),
            ("biases", 32, 32, sizes.lanes),
        ):
            signals = [
                getattr(dut, f"{name}__{part}") for part in ("en", "address", "data", "mask")
            ]
            ready = getattr(dut, f"{name}__ready")
            ready.value = 0
            self._ports.append((name, bits, step, count, signals, ready))

    def start(self) -> None:
        for port in self._ports:
            cocotb.start_soon(self._run(*port))

    async def _run(
        self, name: str, bits: int, step: int, count: int, signals: list[Any], ready: Any
    ) -> None:
        en, address, values, mask = signals
        while True:
            taken = not (self._pause and self._pause())
            ready.value = taken
            await RisingEdge(self._clk)
            if not (taken and en.value):
                continue
            entry, word, chosen = int(address.value), int(values.value), int(mask.value)
            self.writes += 1
            for n in range(count):
                if chosen >> n & 1:
                    place = (name, entry, n)
                    assert place not in self.written, f"{place} was written twice"
                    self.written[place] = word >> step * n & (1 << bits) - 1


def _command(rng: random.Random, sizes: VectorSizes, memory: bytearray) -> dict[str, Any]:
    target = rng.choice([target for target in Target if target is not Target.TABLE])
    gathers = target in (Target.GATHER, Target.GATHER_DYNAMIC, Target.PICK_DYNAMIC)
    if PORTS[target] == "scratchpad":
        size, room, pitch_unit = 1, sizes.scratchpad, sizes.line
    elif target in (Target.PARAMETERS, Target.BIASES):
        size, room, pitch_unit = 4 * sizes.lanes, sizes.parameters, 1
    elif target is Target.VECTOR:
        size, room, pitch_unit = 2 * sizes.lanes, sizes.vectors, 1
    else:
        size, room, pitch_unit = 4, sizes.rows, 1
    rows = rng.randint(1, 16) if gathers else rng.choice([1, 1, 2, 5, 16])
    units = rng.choice([1, 3, room // rows // 2, rng.randint(1, max(1, room // rows // 2))])
    if target in (Target.GATHER_DYNAMIC, Target.PICK_DYNAMIC):
        units = 1
    units = max(1, min(units, room // rows // 2))
    entries = -(-units // pitch_unit)
    pitch = 64 * (-(-units * size // 64) + rng.randrange(3))
    target_pitch = pitch_unit * (entries + rng.randrange(2))
    while target_pitch * rows > room:
        rows -= 1
    begin = rng.randrange((room - target_pitch * rows) // pitch_unit + 1) * pitch_unit
    fields = {
        "hbm": 64 * rng.randrange((HBM // 2 - 64) // 64),
        "bytes": units * size,
        "rows": rows,
        "pitch": pitch,
        "target": begin,
        "target_pitch": target_pitch,
        "ids": 0,
    }
    if target in ELEMENT_BYTES:
        each = ELEMENT_BYTES[target]
        fields |= {
            "hbm": rng.randrange(HBM // 2 // each) * each,
            "bytes": units * each,
            "total": rows * units * each,
            "pitch": 0,
        }
    elif gathers:
        fields["ids"] = 64 * rng.randrange((HBM - 4096) // 64, HBM // 64)
        fields["hbm"] %= 2**14
        if target is Target.PICK_DYNAMIC:
            fields |= {"hbm": TABLE, "pitch": 4}
        highest = min(
            TABLE_WORDS - 1 if target is Target.PICK_DYNAMIC else 2**16,
            (HBM - 4096 - fields["hbm"]) // pitch - 1,
        )
        for row in range(rows):
            at = fields["ids"] + 4 * row
            memory[at : at + 4] = rng.randint(0, highest).to_bytes(4, "little")
    else:
        fields["hbm"] = 64 * rng.randrange((HBM - pitch * rows) // 64)
    return _load(target, **fields)


def _load(op: Target, **fields: int) -> dict[str, Any]:
    head = {"queue": Queue.LOAD.value, "op": op.value, "end": 0, "spare": 0}
    return {str(name): 0 for name, _ in LOAD} | fields | {"head": head}


def _expected(command: dict[str, Any], sizes: VectorSizes, memory: bytearray) -> dict[Write, int]:
    target = Target(command["head"]["op"])
    name = PORTS[target]
    size = ELEMENT_BYTES.get(target, {"scratchpad": 1, "vectors": 2}.get(name, 4))
    per_entry = {"scratchpad": sizes.line, "dynamic": 1}.get(name, sizes.lanes)
    mask = (1 << 22) - 1 if size == 4 and name != "biases" else (1 << 32) - 1
    out = {}
    for row in range(command["rows"]):
        index = row
        if command["ids"]:
            at = command["ids"] + 4 * row
            index = int.from_bytes(memory[at : at + 4], "little")
        source = command["hbm"] + command["pitch"] * index
        begin = command["target"] + command["target_pitch"] * row
        if target in ELEMENT_BYTES:
            source += command["bytes"] * row
            step = min(sizes.line, BEAT_BYTES // size)
            end = begin + command["bytes"] // size
            for n in range(end, -(-end // step) * step):
                out[(name, *divmod(n, BEAT_BYTES))] = 0
        for n in range(command["bytes"] // size):
            value = int.from_bytes(memory[source + size * n : source + size * n + size], "little")
            if name == "scratchpad":
                place = divmod(begin + n, BEAT_BYTES)
                value = value if size == 2 else (value ^ 2**7) - 2**7
                out[(name, *place)] = value % 2**ACTIVATION_BITS
                continue
            else:
                entry, element = divmod(n, per_entry)
                place = (begin + entry, element)
            if name == "vectors":  # extended by its sign
                out[(name, *place)] = ((value ^ 2**15) - 2**15) % 2**32
                continue
            out[(name, *place)] = value & mask
    return out


async def _start(
    dut: Any, rng: random.Random, idle: float, stall: float
) -> tuple[StreamDriver, _Memories, bytearray, LoadObserver]:
    """Start the engine between a random HBM and its memories, with an observer."""
    contents = bytearray(rng.randbytes(HBM))
    memory = AxiReadMemory(dut, "axi", contents, sometimes(rng, idle))
    driver = StreamDriver(dut, "i", LOAD)
    memories = _Memories(dut, sizes_of_environment(), sometimes(rng, stall))
    await start_clock_and_reset(dut)
    memory.start()
    memories.start()
    observer = LoadObserver(
        dut, dut.clk, CommandPorts.of_engine(dut), entry_bytes=4 * sizes_of_environment().lanes
    )
    observer.start()
    return driver, memories, contents, observer


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def writes_what_it_reads(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    driver, memories, contents, observer = await _start(dut, rng, idle, stall)
    sizes = sizes_of_environment()
    checker = AxiReadChecker(dut, "axi")
    table = _load(Target.TABLE, hbm=TABLE, bytes=4 * TABLE_WORDS, rows=1)
    await driver.send([table])
    await RisingEdge(dut.done)
    await RisingEdge(dut.clk)
    assert not memories.written
    for _ in range(40):
        # Token numbers stay as they are until the command is done; they are outside the table.
        command = _command(rng, sizes, contents)
        expected = _expected(command, sizes, contents)
        await driver.send([command])
        while not dut.done.value:
            await RisingEdge(dut.clk)
        shown = {k: v for k, v in command.items() if v}
        assert memories.written == expected, f"{shown}: {_difference(memories.written, expected)}"
        memories.written.clear()
        if rng.randrange(2):
            await ClockCycles(dut.clk, rng.randrange(1, 20))
        checker.check_finished()
    _check_causes(await observer.check(), stall)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def commands_follow_each_other(dut: Any, idle: float, stall: float) -> None:
    """Commands are taken ahead; each is done when its own writes are, and no later one's."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall}")
    driver, memories, contents, observer = await _start(dut, rng, idle, stall)
    sizes = sizes_of_environment()
    AxiReadChecker(dut, "axi")
    commands = [_load(Target.TABLE, hbm=TABLE, bytes=4 * TABLE_WORDS, rows=1)]
    drawn = [_command(rng, sizes, contents) for _ in range(40)]
    # Of those that read the same token numbers, the last has them as they are now.
    last = {c["ids"]: c for c in drawn}
    commands += [c for c in drawn if not c["ids"] or c is last[c["ids"]]]
    sending = cocotb.start_soon(driver.send(commands))
    for command in commands:
        expected = {}
        if command["head"]["op"] != Target.TABLE.value:
            expected = _expected(command, sizes, contents)
        while not dut.done.value:
            await RisingEdge(dut.clk)
        shown = {k: v for k, v in command.items() if v}
        difference = _difference(memories.written, expected)
        assert memories.written == expected, f"{shown}: {difference}"
        memories.written.clear()
        await RisingEdge(dut.clk)
    assert sending.done()
    _check_causes(await observer.check(), stall)


def _check_causes(found: dict[str, int], stall: float) -> None:
    assert all(found[cause] for cause in ("writing", "waiting_hbm", "idle"))
    assert bool(found.get("waiting_memory")) == bool(stall)


def _difference(got: dict[Write, int], want: dict[Write, int]) -> str:
    for place in sorted(got.keys() | want.keys()):
        if got.get(place) != want.get(place):
            return f"{place} is {got.get(place)} instead of {want.get(place)}"
    return "equal"
