# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the vector unit: every op, on memories that stall at random."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
from amaranth.utils import ceil_log2
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych.systolic.isa import VECTOR, VectorOp
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.observers.ports import CommandPorts
from diptych_sim.host.observers.vector import CAUSES, VectorObserver
from diptych_sim.host.streams import StreamDriver
from diptych_tb.systolic.vector_model import (
    TWO_PHASES,
    Command,
    VectorModel,
    random_commands,
    sizes_of_environment,
)


def _pack(values: np.ndarray, width: int) -> int:
    mask = (1 << width) - 1
    bits = 0
    for index, value in enumerate(values.tolist()):
        bits |= (value & mask) << index * width
    return bits


class _Memories:
    """Answers all ports from copies of the model's memories, and counts."""

    def __init__(self, dut: Any, model: VectorModel, stall: Callable[[], bool]) -> None:
        self.sizes = model.sizes
        self.scratchpad = model.scratchpad.copy()
        self.vectors = model.vectors.copy()
        self.cycles = 0
        self.done = 0
        self._dut = dut
        self._stall = stall
        accumulators = [_pack(entry, 32) for entry in model.accumulators]
        parameters = [_pack(entry, 22) for entry in model.parameters]
        line = self.sizes.line
        self._reads = [
            self._port("accumulators", lambda at: accumulators[at]),
            self._port("parameters", lambda at: parameters[at]),
            self._port("biases", lambda at: _pack(model.biases[at], 32)),
            self._port("vectors_read", lambda at: _pack(self.vectors[at], 32)),
            self._port(
                "scratchpad_read",
                lambda at: _pack(self.scratchpad[at * line : at * line + line], ACTIVATION_BITS),
            ),
        ]
        self._writes = [
            self._port("vectors_write", lambda at: self.vectors[at]),
            self._port(
                "scratchpad_write", lambda at: self.scratchpad[at * line : at * line + line]
            ),
        ]
        self.accesses = dict.fromkeys([port[0] for port in (*self._reads, *self._writes)], 0)

    def _port(self, name: str, cells: Callable[[int], Any]) -> tuple[Any, ...]:
        dut = self._dut
        handles = [dut[f"{name}__{part}"] for part in ("en", "address", "ready", "data")]
        mask = dut[f"{name}__mask"] if name.endswith("write") else None
        return (name, cells, mask, *handles)

    async def run(self) -> None:
        edge = RisingEdge(self._dut.clk)
        done = self._dut.done
        ready = {}
        while True:
            for name, *_, port_ready, _data in (*self._reads, *self._writes):
                ready[name] = not self._stall()
                port_ready.value = ready[name]
            await edge
            self.cycles += 1
            self.done += bool(done.value)
            for name, cells, mask, en, address, _, data in self._writes:
                if ready[name] and en.value:
                    self.accesses[name] += 1
                    bits = int(data.value)
                    entry = cells(int(address.value))
                    chosen = int(mask.value)
                    width = len(data) // len(entry)
                    for lane in range(len(entry)):
                        if chosen >> lane & 1:
                            value = bits >> lane * width & (1 << width) - 1
                            entry[lane] = value - (value >> width - 1 << width)
            for name, cells, _, en, address, _, data in self._reads:
                if ready[name] and en.value:
                    self.accesses[name] += 1
                    data.value = cells(int(address.value))
                elif self._stall():
                    # Other bytes are not compared.
                    data.value = random.getrandbits(len(data))


class _Bench:
    """The unit, its memories and its model."""

    def __init__(self, dut: Any, idle: float, stall: float) -> None:
        self.dut = dut
        self.rng = rng = random.Random(cocotb.RANDOM_SEED)
        random.seed(cocotb.RANDOM_SEED)
        self.sizes = sizes_of_environment()
        self.model = VectorModel(self.sizes, np.random.default_rng(cocotb.RANDOM_SEED))
        self.driver = StreamDriver(dut, "i", VECTOR, lambda: rng.random() < idle)
        self.memories = _Memories(dut, self.model, lambda: rng.random() < stall)
        self.observer = VectorObserver(dut, dut.clk, CommandPorts.of_engine(dut), self.sizes)

    async def start(self) -> None:
        dut = self.dut
        dut.load_dynamic__en.value = 0
        dut.load_dynamic__mask.value = 1
        await start_clock_and_reset(dut)
        cocotb.start_soon(self.memories.run())
        self.observer.start()
        # Row states survive a reset, so begin them anew.
        await self.load()
        sizes = self.sizes
        flags = {"first_lane": 0, "end_lane": sizes.lanes, "dynamic": 0, "restart": 1}
        flags["square_shift"] = 3
        common: dict[str, Any] = {"rows": sizes.rows, "flags": flags}
        await self.run(
            Command(VectorOp.EMBED, target_row=sizes.line, vector_row=1, extra=16 << 16, **common),
            Command(VectorOp.TOP, first=sizes.lanes - 1, **common),
        )

    async def load(self, first: int = 0) -> None:
        """Give each row from ``first`` on a new ``dynamic`` from outside."""
        dut = self.dut
        words = self.model.words(self.sizes.rows - first, 14, 18)
        self.model.dynamic[first:] = words
        for row, word in enumerate(words.tolist(), first):
            dut.load_dynamic__en.value = 1
            dut.load_dynamic__address.value = row
            dut.load_dynamic__data.value = word
            await RisingEdge(dut.clk)
            while not dut.load_dynamic__ready.value:
                await RisingEdge(dut.clk)
        dut.load_dynamic__en.value = 0

    async def run(self, *commands: Command) -> None:
        """Run commands back to back, and check memories after the last."""
        finish = self.memories.done + len(commands)
        sending = cocotb.start_soon(self.driver.send(c.beat() for c in commands))
        for command in commands:
            self.model.run(command)
        while self.memories.done < finish:
            await RisingEdge(self.dut.clk)
        await RisingEdge(self.dut.clk)
        assert sending.done()
        assert self.memories.done == finish
        for name in ("scratchpad", "vectors"):
            got, want = getattr(self.memories, name), getattr(self.model, name)
            wrong = np.argwhere(got != want)
            assert not len(wrong), (
                f"{name} at {wrong[0].tolist()} (of {len(wrong)}): {got[tuple(wrong[0])]} instead "
                f"of {want[tuple(wrong[0])]} after {commands}"
            )
        if any(command.op is VectorOp.ARGMAX for command in commands):
            assert self.dut.token_valid.value
            assert int(self.dut.token.value) == self.model.token, commands


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(op=[op.name for op in VectorOp], stall=[0.0, 0.4])
async def matches_the_golden_model(dut: Any, op: str, stall: float) -> None:
    bench = _Bench(dut, idle=stall, stall=stall)
    await bench.start()
    for _ in range(25):
        await bench.run(*random_commands(bench.rng, bench.model, VectorOp[op]))
    await bench.observer.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.3])
async def runs_mixed_commands(dut: Any, stall: float) -> None:
    bench = _Bench(dut, idle=stall, stall=stall)
    await bench.start()
    for index in range(40):
        if index % 5 == 4:
            await bench.load()
        ops = bench.rng.choices(list(VectorOp), k=4)
        await bench.run(*(c for op in ops for c in random_commands(bench.rng, bench.model, op)))
    await bench.observer.check()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def counts_every_cycle_and_byte(dut: Any) -> None:
    bench = _Bench(dut, idle=0.3, stall=0.3)
    await bench.start()

    def counts() -> dict[str, int]:
        return {cause: int(dut[f"count_{cause}"].value) for cause in CAUSES}

    before = counts()
    accesses = dict(bench.memories.accesses)
    bytes_before = {n: int(dut[f"bytes_{n}"].value) for n in _BYTES}
    ops = bench.rng.sample(list(VectorOp), k=len(VectorOp))
    await bench.run(*(c for op in ops for c in random_commands(bench.rng, bench.model, op)))
    after = counts()
    await bench.observer.check()
    assert all(after[cause] > before[cause] for cause in CAUSES), (before, after)
    for name, (port, size) in _BYTES.items():
        got = int(dut[f"bytes_{name}"].value) - bytes_before[name]
        assert got == (bench.memories.accesses[port] - accesses[port]) * size * bench.sizes.lanes


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reads_each_entry_once(dut: Any) -> None:
    bench = _Bench(dut, idle=0, stall=0.5)
    await bench.start()
    before = dict(bench.memories.accesses)
    (command,) = random_commands(bench.rng, bench.model, VectorOp.ADD)
    await bench.run(command)
    for name in ("accumulators", "parameters", "vectors_read", "vectors_write"):
        assert bench.memories.accesses[name] - before[name] == command.rows * command.tiles


@cocotb.test(timeout_time=200, timeout_unit="us")
async def takes_rows_from_outside_while_it_writes_others(dut: Any) -> None:
    bench = _Bench(dut, idle=0, stall=0)
    await bench.start()

    async def load_later(first: int, delay: int) -> None:
        await ClockCycles(dut.clk, delay)
        await bench.load(first)

    for delay in range(4, 20):
        op = VectorOp.GATE if delay % 2 else VectorOp.NORM
        (command,) = random_commands(bench.rng, bench.model, op)
        command.rows = bench.sizes.rows // 2
        # Its scales are those of its own rows.
        command.flags["dynamic"] = 0
        loading = cocotb.start_soon(load_later(command.rows, delay))
        await bench.run(command)
        await loading
        (command,) = random_commands(bench.rng, bench.model, VectorOp.REQUANTIZE)
        command.rows = bench.sizes.rows
        command.flags["dynamic"] = 1
        await bench.run(command)


_BYTES = {
    "accumulator_read": ("accumulators", 4),
    "scratchpad_read": ("scratchpad_read", 1.5),
    "scratchpad_write": ("scratchpad_write", 1.5),
    "vector_read": ("vectors_read", 4),
    "vector_write": ("vectors_write", 4),
    "parameter_read": ("parameters", 4),
}

_OVERHEAD = {
    VectorOp.REQUANTIZE: 8,
    VectorOp.ROTATE: 11,
    VectorOp.ROTATE_AGAIN: 11,
    VectorOp.VALUES: 16,
    VectorOp.ADD: 16,
    VectorOp.NORM: 16,
    VectorOp.GATE: 22,
    VectorOp.QUANTIZE: 8,
    VectorOp.TOP: 7,
    VectorOp.EXPONENTIAL: 18,
}
"""Cycles of a lone command besides one or two per tile, from taken to done."""
_REDUCES = (
    VectorOp.ADD,
    VectorOp.VALUES,
    VectorOp.GATE,
    VectorOp.NORM,
    VectorOp.TOP,
    VectorOp.EXPONENTIAL,
)
"""They take a cycle more for each level of the reduction but the first."""


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(op=[op.name for op in _OVERHEAD])
async def takes_a_tile_per_cycle(dut: Any, op: str) -> None:
    bench = _Bench(dut, idle=0, stall=0)
    await bench.start()
    command = random_commands(bench.rng, bench.model, VectorOp[op])[-1]
    command.tiles, command.rows, command.vector_row = 3, 5, 3
    command.first = 3 * bench.sizes.lanes - 1
    if command.op is VectorOp.GATE:
        command.flags["low_first"] = 1
    if command.op is VectorOp.EXPONENTIAL:
        await bench.run(replace(command, op=VectorOp.TOP))
    idle = int(dut.count_idle.value)
    begin = bench.memories.cycles
    await bench.run(command)
    await ClockCycles(dut.clk, 2)
    busy = bench.memories.cycles - begin - (int(dut.count_idle.value) - idle)
    phases = 2 if command.op in TWO_PHASES else 1
    levels = ceil_log2(bench.sizes.lanes) - 1 if command.op in _REDUCES else 0
    steps = 15 * phases + (command.rows if command.op is VectorOp.NORM else 0)
    assert busy == steps + _OVERHEAD[command.op] + levels, busy
