# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the loader: random packets, for this column and for others."""

import random
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import DATA_BITS, Load, Route, header
from diptych.mesh.isa import INSTRUCTION_WORDS
from diptych.mesh.loader import REGISTER_BITS, TASK_BITS
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import StreamDriver, sometimes

PACKETS = 120
PORTS = {
    "sram_write": ("address", "data", "mask"),
    "program_write": ("address", "word", "data"),
    "register_write": ("address", "data"),
    "task_write": ("address", "data"),
    "activation": ("task",),
    "route_write": ("color", "position", "route"),
}
WITH_READY = ("sram_write", "register_write")
Effect = tuple[str, tuple[int, ...]]


class _Effects:
    """Collects what the loader does, in order; SRAM and registers do not always take a write."""

    def __init__(self, dut: Any, pause: Any) -> None:
        self.seen: list[Effect] = []
        self._dut, self._pause = dut, pause
        self._ready = {name: getattr(dut, f"{name}__ready") for name in WITH_READY}
        for ready in self._ready.values():
            ready.value = 0
        self._unsettled = dut.unsettled
        self._unsettled.value = 0
        self._ports = [
            (name, getattr(dut, f"{name}__valid"), [getattr(dut, f"{name}__{f}") for f in fields])
            for name, fields in PORTS.items()
        ]

    async def run(self) -> None:
        while True:
            readies = {name: not (self._pause and self._pause()) for name in WITH_READY}
            for name, ready in self._ready.items():
                ready.value = readies[name]
            unsettled = bool(self._pause and self._pause())
            self._unsettled.value = unsettled
            await RisingEdge(self._dut.clk)
            for name, valid, fields in self._ports:
                assert not (name == "activation" and valid.value and unsettled)
                if valid.value and readies.get(name, True):
                    self.seen.append((name, tuple(int(f.value) for f in fields)))


def _packet(rng: random.Random, column: int) -> tuple[list[int], list[Effect]]:
    """Return the words of a packet, and what it does."""
    kind = rng.choice([k for k in Load if k is not Load.NOTHING] + [Load.BYTES, Load.WORDS])
    mine = rng.random() < 0.7
    first, last = rng.randint(0, column), rng.randint(column, 2**16 - 1)
    if not mine:
        first, last = rng.choice([(column + 1, column + 5), (0, column - 1), (column + 1, 0)])
    count = rng.randint(1, 20)
    address, step = rng.randrange(0, 60000, 4), rng.randrange(4096)
    if kind is Load.BYTES:
        address += rng.randrange(4)
    elif kind in (Load.REGISTER, Load.TASK, Load.ACTIVATE):
        count, address = rng.randint(1, 4), rng.randrange(4)
    elif kind is Load.PROGRAM:
        count = INSTRUCTION_WORDS * rng.randint(1, 4)
    elif kind is Load.ROUTE:
        count, address = rng.randint(1, 4), rng.randrange(120)
    if kind is Load.ACTIVATE:
        count = rng.randint(0, 1)
    payload = [rng.getrandbits(DATA_BITS) for _ in range(count)]
    words = header(
        kind, count=count, first_column=first, last_column=last, address=address, step=step
    )
    words += payload
    if not mine:
        return words, []
    effects: list[Effect] = []
    if kind is Load.WORDS:
        for n, word in enumerate(payload):
            at = address + 4 * n
            mask = 0xF0 if at & 4 else 0x0F
            effects.append(("sram_write", (at >> 3, word | word << 32, mask)))
    elif kind is Load.BYTES:
        for n in range(4 * count):
            at = address + step * n
            byte = payload[n // 4] >> 8 * (n % 4) & 255
            repeated = int.from_bytes(bytes([byte] * 8), "little")
            effects.append(("sram_write", (at >> 3 & 2**13 - 1, repeated, 1 << at % 8)))
    elif kind is Load.PROGRAM:
        for n, word in enumerate(payload):
            place, part = divmod(n, INSTRUCTION_WORDS)
            effects.append(("program_write", (address + place, part, word)))
    elif kind is Load.ROUTE:
        bits = Route().size
        effects = [
            ("route_write", ((address + n) % 32, (address + n) // 32, word & 2**bits - 1))
            for n, word in enumerate(payload)
        ]
    elif kind is Load.REGISTER:
        effects = [
            ("register_write", ((address + n) % 2**REGISTER_BITS, word))
            for n, word in enumerate(payload)
        ]
    elif kind is Load.TASK:
        effects = [
            ("task_write", ((address + n) % 2**TASK_BITS, word)) for n, word in enumerate(payload)
        ]
    else:
        effects = [("register_write", (1, word)) for word in payload]
        effects.append(("activation", (address % 2**TASK_BITS,)))
    return words, effects


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def carries_out_packets(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall}")
    driver = StreamDriver(dut, "i", unsigned(DATA_BITS), sometimes(rng, idle))
    effects = _Effects(dut, sometimes(rng, stall))
    column = rng.choice([1, 7, 300])
    dut.column.value = column
    await start_clock_and_reset(dut)
    cocotb.start_soon(effects.run())
    for _ in range(PACKETS):
        words, expected = _packet(rng, column)
        effects.seen.clear()
        await driver.send(words)
        await ClockCycles(dut.clk, 1)
        # An argument is written no later than its task starts.
        assert (
            sorted(effects.seen) == sorted(expected)
            if len(expected) == 2
            else (effects.seen == expected)
        ), f"packet {words[:3]}: {effects.seen} instead of {expected}"


@cocotb.test(timeout_time=100, timeout_unit="us")
async def takes_a_word_a_cycle(dut: Any) -> None:
    driver = StreamDriver(dut, "i", unsigned(DATA_BITS))
    effects = _Effects(dut, None)
    dut.column.value = 0
    await start_clock_and_reset(dut)
    cocotb.start_soon(effects.run())
    for kind, cycles in ((Load.WORDS, 40), (Load.REGISTER, 40), (Load.BYTES, 160)):
        head = header(kind, count=40, first_column=0, last_column=0, address=0, step=1)
        start = len(effects.seen)
        task = cocotb.start_soon(driver.send([*head, *range(40)]))
        for taken in range(cycles + 4):
            assert not task.done(), f"{kind} took {taken} cycles"
            await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        assert task.done()
        assert len(effects.seen) - start == cycles
