# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the command queues: order, semaphores, end of a program, and the next program."""

import random
from typing import Any

import cocotb
from cocotb.queue import Queue as CocotbQueue
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.systolic.isa import LOAD, MATRIX, STORE, VECTOR, Program, Queue
from diptych_sim.compiler.array.commands import CommandList
from diptych_sim.host.axi_checker import AxiReadChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import Pause, StreamMonitor, sometimes
from diptych_tb.memory.axi import AxiReadMemory

LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}
NUMBER = {Queue.LOAD: "hbm", Queue.MATRIX: "x", Queue.VECTOR: "sums", Queue.STORE: "hbm"}
"""Field of each layout that tells a command's number."""
STARTED = 8
"""Commands that an engine may take before the first is done."""


def _program(rng: random.Random, count: int) -> tuple[CommandList, list[list[int]]]:
    """Return random commands, and for each those that it must come after."""
    commands = CommandList()
    after: list[list[int]] = []
    for number in range(count):
        queue = rng.choice(list(Queue))
        recent = range(max(0, number - 8), number)
        needs = rng.sample(recent, min(len(recent), rng.choice([0, 0, 1, 1, 2])))
        other = (
            {"pitch": rng.randrange(3)} if NUMBER[queue] == "hbm" else {"first": rng.randrange(3)}
        )
        fields = {NUMBER[queue]: number, **other}
        # Wide, negative and many fields: some commands are stored in halves.
        for name, _ in list(LAYOUTS[queue])[4 : 4 + rng.randrange(6)]:
            if name not in fields and not str(name).startswith("spare"):
                fields[str(name)] = rng.choice([0x7FFF, 0x8000, 2**32 - 0x7FFF, 2**32 - 0x8000])
        commands.add(queue, rng.randrange(8), after=needs, remember=rng.randrange(4), **fields)
        after.append(needs)
    return commands, after


class _Engine:
    """Takes commands of a queue, a few ahead, and is done with each some cycles later."""

    def __init__(self, dut: Any, queue: Queue, rng: random.Random, busy: int, stall: float) -> None:
        self.queue = queue
        self.name = queue.name.lower()
        self.done = getattr(dut, f"{self.name}_done")
        self.done.value = 0
        self._dut, self._rng, self._busy, self._stall = dut, rng, busy, stall

    def start(
        self,
        commands: CommandList,
        after: list[list[int]],
        ran: list[int],
        pause: Pause | None = None,
    ) -> None:
        pause = pause or sometimes(self._rng, self._stall)
        monitor = StreamMonitor(self._dut, self.name, LAYOUTS[self.queue], pause)
        self.taken: list[int] = []
        self.completed = 0
        self.most_at_a_time = 0
        self._started: CocotbQueue[int] = CocotbQueue()
        self.tasks = [
            monitor.task,
            cocotb.start_soon(self._take(monitor, commands, after, ran)),
            cocotb.start_soon(self._run(ran)),
        ]

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()

    async def _take(
        self,
        monitor: StreamMonitor,
        commands: CommandList,
        after: list[list[int]],
        ran: list[int],
    ) -> None:
        while True:
            beat = await monitor.beats.get()
            number = beat[NUMBER[self.queue]]
            missing = [need for need in after[number] if need not in ran]
            others = [need for need in missing if commands.commands[need].queue != self.queue]
            assert not others, f"command {number} must come after {others}"
            command = commands.commands[number]
            assert beat["head"]["op"] == command.op
            fields = {name: beat[name] for name in command.fields}
            assert fields == command.fields, f"wrong fields of command {number}"
            self.taken.append(number)
            self._started.put_nowait(number)
            self.most_at_a_time = max(self.most_at_a_time, len(self.taken) - self.completed)
            assert self.most_at_a_time <= STARTED, "too many commands at a time"

    async def _run(self, ran: list[int]) -> None:
        clk = self._dut.clk
        while True:
            number = await self._started.get()
            await ClockCycles(clk, self._rng.randrange(self._busy) + 1)
            ran.append(number)
            self.done.value = 1
            await RisingEdge(clk)
            self.done.value = 0
            self.completed += 1


def _start_of(address: int, beats: int) -> int:
    return Program().const({"address": address, "beats": beats}).as_value().value


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(busy=[1, 30], stall=[0.0, 0.5], wait=[0.0, 0.6])
async def keeps_the_order(dut: Any, busy: int, stall: float, wait: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    contents = bytearray(rng.randbytes(2**16))
    programs = []
    for address, count in ((64, 1), (4096, 120), (16384, 90), (24576, 200), (40960, 20)):
        commands, after = _program(rng, count)
        code = b"".join(word.to_bytes(4, "little") for word in commands.words())
        contents[address : address + len(code)] = code
        beats = -(-len(code) // 64)
        programs.append((address, beats, commands, after))
    memory = AxiReadMemory(dut, "axi", contents, sometimes(rng, wait))
    engines = [_Engine(dut, queue, rng, busy, stall) for queue in Queue]
    dut.start.value = 0
    await start_clock_and_reset(dut)
    memory.start()
    checker = AxiReadChecker(dut, "axi")
    started = 0
    for address, beats, commands, after in programs:
        assert dut.finished.value == (started > 0)
        ran: list[int] = []
        asked = checker.bursts
        for engine in engines:
            engine.start(commands, after, ran)
        dut.program.value = _start_of(address, beats)
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        await RisingEdge(dut.clk)
        while not dut.finished.value:
            await RisingEdge(dut.clk)
        assert sorted(ran) == list(range(len(after))), "finished before all commands were done"
        for engine in engines:
            mine = [n for n, c in enumerate(commands.commands) if c.queue is engine.queue]
            assert engine.taken == mine, f"{engine.name}: wrong order"
            engine.stop()
        started += len(after)
        assert checker.bursts - asked == beats, "beats behind the program were fetched"
        assert int(dut.count_commands.value) == started
        for what in ("started", "done"):
            queues = ("load", "matrix", "vector", "store")
            counted = [int(dut[f"count_{queue}_{what}"].value) for queue in queues]
            assert sum(counted) == started, what
        await RisingEdge(dut.clk)


async def _run(
    dut: Any, commands: CommandList, engines: list[_Engine], pauses: dict[Queue, Pause]
) -> list[int]:
    """Start a program; return the list of the commands that are done, as it grows."""
    code = b"".join(word.to_bytes(4, "little") for word in commands.words())
    memory = AxiReadMemory(dut, "axi", bytearray(code + bytes(64)))
    dut.start.value = 0
    await start_clock_and_reset(dut)
    memory.start()
    ran: list[int] = []
    for engine in engines:
        after: list[list[int]] = [[] for _ in commands.commands]
        engine.start(commands, after, ran, pauses.get(engine.queue))
    dut.program.value = _start_of(0, -(-len(code) // 64))
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    return ran


@cocotb.test(timeout_time=50, timeout_unit="us")
async def counts_semaphores_and_commands(dut: Any) -> None:
    """All loads are done before the first command that waits for one of them starts."""
    rng = random.Random(cocotb.RANDOM_SEED)
    commands = CommandList()
    loads = [commands.add(Queue.LOAD, 0, hbm=number) for number in range(50)]
    for number in loads:
        commands.add(Queue.MATRIX, 0, after=[number], x=len(commands.commands))
    engines = [_Engine(dut, queue, rng, 30, 0.0) for queue in Queue]
    ran: list[int] = []
    pauses = {Queue.MATRIX: lambda: len(ran) < len(loads)}
    ran = await _run(dut, commands, engines, pauses)
    while not dut.finished.value:
        await RisingEdge(dut.clk)
    assert len(ran) == len(commands.commands)
    assert engines[Queue.LOAD.value].most_at_a_time == STARTED


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize(bit_of=[(0, "LOAD"), (1, "VECTOR"), (2, "STORE")])
async def tells_for_which_engine_matrix_waits(dut: Any, bit_of: tuple[int, str]) -> None:
    bit, name = bit_of
    other = Queue[name]
    rng = random.Random(cocotb.RANDOM_SEED)
    commands = CommandList()
    fields: dict[str, Any] = {NUMBER[other]: 0}
    commands.add(other, 0, **fields)
    commands.add(Queue.MATRIX, 0, after=[0], x=1)
    ran: list[int] = []
    held = True
    engines = [_Engine(dut, queue, rng, 1, 0.0) for queue in Queue]
    ran = await _run(dut, commands, engines, {other: lambda: held})
    await ClockCycles(dut.clk, 100)
    assert ran == []
    assert int(dut.matrix_waits.value) == 1 << bit
    held = False
    while not dut.finished.value:
        await RisingEdge(dut.clk)
    assert ran == [0, 1]
    assert int(dut.matrix_waits.value) == 0
