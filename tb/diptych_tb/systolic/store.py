# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the engine that hands off: random commands of every op."""

import os
import random
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.systolic.isa import STORE, Handoff, HandoffKind, Queue, StoreOp
from diptych_sim.host.axi_checker import AxiWriteChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.observers.ports import CommandPorts
from diptych_sim.host.observers.store import StoreObserver
from diptych_sim.host.streams import StreamChecker, StreamDriver, StreamMonitor, sometimes
from diptych_tb.memory.axi import AxiWriteMemory

LINE = int(os.environ["DUT_LINE"])
SIZE = 2**13
LANES = int(os.environ["DUT_LANES"])
ENTRIES = 256
BIASES = 64
HBM = 2**15
LINKED = (StoreOp.KEYS, StoreOp.VALUES, StoreOp.TOKEN)


Reads = Counter[str]
"""Reads of each memory."""


async def _read(
    dut: Any, name: str, size: int, memory: bytes, pause: Any, reads: Reads | None = None
) -> None:
    """Answer reads a cycle after they were accepted, show garbage in any other cycle; count them."""
    rng = random.Random(1)
    en, address, ready, answer = (
        getattr(dut, f"{name}__{part}") for part in ("en", "address", "ready", "data")
    )
    while True:
        grants = not (pause and pause())
        ready.value = grants
        await RisingEdge(dut.clk)
        line = rng.randbytes(size)
        if grants and en.value:
            at = int(address.value) * size
            line = memory[at : at + size]
            if reads is not None:
                reads[name] += 1
        answer.value = int.from_bytes(line, "little")


def _idle(dut: Any) -> None:
    for name in ("scratchpad", "accumulators"):
        getattr(dut, f"{name}__ready").value = 0
    dut.axi__aw__ready.value = dut.axi__w__ready.value = dut.axi__b__valid.value = 0


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
        "layer": rng.randrange(2**16),
        "first": rng.randrange(2**15),
    }
    head = {"queue": Queue.STORE.value, "op": rng.choice(LINKED).value, "end": 0, "spare": 0}
    return {str(name): 0 for name, _ in STORE} | fields | {"head": head}


def _expected(command: dict[str, Any], memory: bytes, token: int) -> list[dict[str, int]]:
    op = StoreOp(command["head"]["op"])
    kind = HandoffKind[op.name]
    common = {
        "kind": kind.value,
        "layer": command["layer"] & 0xFF,
        "prompt": command["layer"] >> 8,
    }
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


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def hands_off_what_it_reads(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    memory = rng.randbytes(SIZE)
    driver = StreamDriver(dut, "i", STORE)
    _idle(dut)
    dut.token.value = token = rng.randrange(2**32)
    await start_clock_and_reset(dut)
    observer = StoreObserver(dut, dut.clk, CommandPorts.of_engine(dut))
    observer.start()
    pause = sometimes(rng, stall)
    monitor = StreamMonitor(dut, "o", Handoff(), pause)
    StreamChecker(dut, "o", Handoff())
    waits = sometimes(rng, idle)
    reads: Reads = Counter()
    cocotb.start_soon(_read(dut, "scratchpad", LINE, memory, waits, reads))
    lines = 0
    for _ in range(30):
        command = _command(rng)
        await driver.send([command])
        while not dut.done.value:
            await RisingEdge(dut.clk)
        got = [monitor.beats.get_nowait() for _ in range(monitor.beats.qsize())]
        assert got == _expected(command, memory, token), {k: v for k, v in command.items() if v}
        await ClockCycles(dut.clk, rng.randrange(3) + 1)
        op = StoreOp(command["head"]["op"])
        planes = {StoreOp.KEYS: 2, StoreOp.VALUES: 1, StoreOp.TOKEN: 0}[op]
        lines += planes * command["rows"] * -(-command["bytes"] // LINE)
        assert reads["scratchpad"] == lines, "each line is read once"
    found = await observer.check()
    assert all(found[cause] for cause in ("reading", "sending", "idle"))
    assert bool(found.get("waiting_link")) == bool(stall)


def _write_command(rng: random.Random) -> dict[str, Any]:
    op = rng.choice([StoreOp.HBM, StoreOp.SUMS, StoreOp.BIASED_SUMS])
    rows = rng.choice([1, 1, 3, 8])
    if op is StoreOp.HBM:
        size = rng.choice([1, LINE, 64, rng.randint(1, 700)])
        source_pitch = LINE * (-(-size // LINE) + rng.randrange(2))
        source = LINE * rng.randrange((SIZE - rows * source_pitch) // LINE)
        source2 = 0
    else:
        tiles = rng.randint(1, 6)
        size = 4 * LANES * tiles - 4 * rng.randrange(LANES)
        source2 = rows + rng.randrange(4)
        source, source_pitch = rng.randrange(ENTRIES - tiles * source2), 0
    pitch = 64 * (-(-size // 64) + rng.randrange(2))
    fields = {
        "hbm": 64 * rng.randrange((HBM - rows * pitch) // 64),
        "bytes": size,
        "rows": rows,
        "pitch": pitch,
        "source": source,
        "source_pitch": source_pitch,
        "source2": source2,
        "first": rng.randrange(BIASES - 6),
    }
    head = {"queue": Queue.STORE.value, "op": op.value, "end": 0, "spare": 0}
    return {str(name): 0 for name, _ in STORE} | fields | {"head": head}


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def writes_what_it_reads(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall}")
    lines, entries = rng.randbytes(SIZE), rng.randbytes(4 * LANES * ENTRIES)
    biases = rng.randbytes(4 * LANES * BIASES)
    hbm = bytearray(HBM)
    driver = StreamDriver(dut, "i", STORE)
    _idle(dut)
    dut.o__ready.value = 0
    memory = AxiWriteMemory(dut, "axi", hbm, sometimes(rng, stall))
    await start_clock_and_reset(dut)
    observer = StoreObserver(dut, dut.clk, CommandPorts.of_engine(dut))
    observer.start()
    checker = AxiWriteChecker(dut, "axi")
    memory.start()
    waits = sometimes(rng, idle)
    reads: Reads = Counter()
    expected_reads: Reads = Counter()
    for name, size, contents, pause in (
        ("scratchpad", LINE, lines, waits),
        ("accumulators", 4 * LANES, entries, waits),
        ("biases", 4 * LANES, biases, None),
    ):
        cocotb.start_soon(_read(dut, name, size, contents, pause, reads))
    for _ in range(8):
        commands = [_write_command(rng) for _ in range(rng.randint(1, 6))]
        # None writes where another one does: each has a part of the memory.
        part = HBM // len(commands) // 64 * 64
        commands = [
            c | {"hbm": index * part + c["hbm"] % 64 + 64 * rng.randrange(8), "pitch": c["pitch"]}
            for index, c in enumerate(commands)
            if c["rows"] * c["pitch"] + 512 <= part
        ]
        memory.written.clear()
        expected: dict[int, int] = {}
        sending = cocotb.start_soon(driver.send(commands))
        for command in commands:
            expected |= _written(command, lines, entries, biases)
            expected_reads += _reads(command)
            while not dut.done.value:
                await RisingEdge(dut.clk)
            await RisingEdge(dut.clk)
            got = {at: hbm[at] for at in memory.written}
            for at, byte in expected.items():
                assert got.get(at) == byte, (at, {k: v for k, v in command.items() if v})
        assert sending.done()
        assert checker.responses == checker.bursts, "done before the last response"
        assert len(memory.written) == len(expected), "something else was written"
        await ClockCycles(dut.clk, rng.randrange(3) + 1)
        assert not dut.done.value
        # Biases are asked for in each cycle in which their sums are.
        assert reads["biases"] >= expected_reads["biases"]
        reads["biases"] = expected_reads["biases"]
        assert reads == expected_reads, "each line and each entry is read once, 64 bytes at most"
    found = await observer.check()
    assert found["writing_hbm"]


def _reads(command: dict[str, Any]) -> Reads:
    """Return the reads of a command that writes to HBM."""
    op = StoreOp(command["head"]["op"])
    size = LINE if op is StoreOp.HBM else 4 * LANES
    count = command["rows"] * -(-command["bytes"] // min(size, 64))
    names = {StoreOp.HBM: ["scratchpad"], StoreOp.SUMS: ["accumulators"]}
    return Counter(dict.fromkeys(names.get(op, ["accumulators", "biases"]), count))


def _written(
    command: dict[str, Any], lines: bytes, entries: bytes, biases: bytes
) -> dict[int, int]:
    """Return what a command writes: bytes by address."""
    op = StoreOp(command["head"]["op"])
    written = {}
    for row in range(command["rows"]):
        if op is StoreOp.HBM:
            at = command["source"] + row * command["source_pitch"]
            piece = lines[at : at + command["bytes"]]
        else:
            places = range(command["source"] + row, ENTRIES, command["source2"])
            piece = b""
            for tile, place in enumerate(places[:6]):
                entry = entries[4 * LANES * place : 4 * LANES * (place + 1)]
                bias = biases[4 * LANES * (command["first"] + tile) :]
                for n in range(0, 4 * LANES, 4):
                    total = int.from_bytes(entry[n : n + 4], "little")
                    if op is StoreOp.BIASED_SUMS:
                        total += int.from_bytes(bias[n : n + 4], "little")
                    piece += (total % 2**32).to_bytes(4, "little")
        base = command["hbm"] + row * command["pitch"]
        written |= {base + n: byte for n, byte in enumerate(piece[: command["bytes"]])}
    return written


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(rows=[1, 64])
async def writes_sums_at_full_rate(dut: Any, rows: int) -> None:
    """An entry a cycle, however short the bursts."""
    driver = StreamDriver(dut, "i", STORE)
    _idle(dut)
    dut.o__ready.value = 0
    memory = AxiWriteMemory(dut, "axi", bytearray(HBM))
    await start_clock_and_reset(dut)
    observer = StoreObserver(dut, dut.clk, CommandPorts.of_engine(dut))
    observer.start()
    memory.start()
    cocotb.start_soon(_read(dut, "accumulators", 4 * LANES, bytes(4 * LANES * ENTRIES), None))
    head = {"queue": Queue.STORE.value, "op": StoreOp.SUMS.value, "end": 0, "spare": 0}
    size = 4 * LANES * 64 // rows
    fields = {"bytes": size, "rows": rows, "pitch": max(64, size), "source2": 1}
    await driver.send([{str(name): 0 for name, _ in STORE} | fields | {"head": head}])
    cycles = 0
    while not dut.done.value:
        await RisingEdge(dut.clk)
        cycles += 1
    reads = rows * size // min(64, 4 * LANES)
    # The memory takes a beat a cycle, and 2 cycles more for each burst.
    bursts = rows * -(-size // 1024)
    assert cycles <= max(reads, 3 * bursts) + 20, f"{cycles} cycles for {reads} reads"
    await observer.check()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def commands_wait_for_late_answers(dut: Any) -> None:
    """Each write is done with its answer, and a word goes to the link when all writes are done."""
    rng = random.Random(cocotb.RANDOM_SEED)
    lines, hbm = rng.randbytes(SIZE), bytearray(HBM)
    driver = StreamDriver(dut, "i", STORE)
    _idle(dut)
    dut.token.value = 7
    memory = AxiWriteMemory(dut, "axi", hbm, answer_pause=sometimes(rng, 0.97))
    await start_clock_and_reset(dut)
    observer = StoreObserver(dut, dut.clk, CommandPorts.of_engine(dut))
    observer.start()
    checker = AxiWriteChecker(dut, "axi")
    memory.start()
    cocotb.start_soon(_read(dut, "scratchpad", LINE, lines, None))
    monitor = StreamMonitor(dut, "o", Handoff())
    ops = [StoreOp.HBM if n % 24 else StoreOp.TOKEN for n in range(1, 60)]
    commands = []
    for n, op in enumerate(ops):
        head = {"queue": Queue.STORE.value, "op": op.value, "end": 0, "spare": 0}
        fields = {"hbm": 64 * n, "bytes": 4, "rows": 1, "pitch": 64, "source": LINE * n}
        commands.append({str(name): 0 for name, _ in STORE} | fields | {"head": head})
    cocotb.start_soon(driver.send(commands))
    taken = done = most = 0
    while done < len(ops):
        await RisingEdge(dut.clk)
        writes = sum(op is StoreOp.HBM for op in ops[: done + 1])
        if dut.o__valid.value or dut.done.value:
            assert checker.responses >= writes, f"command {done} is early"
        done += int(dut.done.value)
        taken += int(dut.i__valid.value and dut.i__ready.value)
        most = max(most, taken - done)
    assert most >= 8, "too few commands wait"
    assert monitor.beats.qsize() == ops.count(StoreOp.TOKEN)
    for n, op in enumerate(ops):
        want = lines[LINE * n : LINE * n + 4] if op is StoreOp.HBM else bytes(4)
        assert hbm[64 * n : 64 * n + 4] == want, n
    await observer.check()
