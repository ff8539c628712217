# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the scratchpad: all ports at random, against a model that arbitrates alike."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych_tb.clocking import start_clock_and_reset

LINE = int(os.environ["DUT_LINE"])
LINES = int(os.environ["DUT_SIZE"]) // LINE
BANKS = int(os.environ["DUT_BANKS"])
# First in priority first.
READERS = ("read_x", "read_w", "read_v", "read_s")
WRITERS = ("write_v", "write_l")
CYCLES = 1200


class _Port:
    def __init__(self, dut: Any, name: str) -> None:
        self.name = name
        self._dut = dut
        self.address: int | None = None
        self.line = 0
        self.mask = 0
        self.waited = 0
        self.get("en").value = 0

    def get(self, part: str) -> Any:
        return getattr(self._dut, f"{self.name}__{part}")

    def conflicts(self) -> int:
        return int(getattr(self._dut, f"conflicts_{self.name}").value)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(reads=[0.3, 1.0], writes=[0.3, 1.0], spread=[0.0, 1.0])
async def reads_what_was_written(dut: Any, reads: float, writes: float, spread: float) -> None:
    """``spread`` is how often a port looks elsewhere than into two lines of a bank."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {reads} {writes} {spread}")
    readers, writers = [_Port(dut, n) for n in READERS], [_Port(dut, n) for n in WRITERS]
    await start_clock_and_reset(dut)
    model: dict[int, int] = {}
    places = [bank * (LINES // BANKS) + rng.randrange(LINES // BANKS) for bank in range(BANKS)]
    places += [places[0] // 2 * 2, places[0] // 2 * 2 + 1]
    # A memory keeps what the test before left: write all that will be read.
    loader = writers[-1]
    for place in places:
        model[place] = rng.getrandbits(8 * LINE)
        loader.get("en").value, loader.get("address").value = 1, place
        loader.get("data").value, loader.get("mask").value = model[place], 2**LINE - 1
        await RisingEdge(dut.clk)
    loader.get("en").value = 0
    await RisingEdge(dut.clk)
    bytes_read, bytes_written = 0, len(places) * LINE
    assert int(dut.count_scratchpad_write.value) == bytes_written
    before = {port.name: port.conflicts() for port in (*readers, *writers)}
    shown: list[tuple[_Port, int]] = []

    def choose() -> int:
        return rng.choice(places if rng.random() < spread else places[-2:])

    for _ in range(CYCLES):
        for port, share in [(p, reads) for p in readers] + [(p, writes) for p in writers]:
            if port.address is None and rng.random() < share:
                port.address = choose()
                port.get("address").value = port.address
                if port in writers:
                    port.line, port.mask = rng.getrandbits(8 * LINE), rng.getrandbits(LINE)
                    port.get("data").value, port.get("mask").value = port.line, port.mask
            port.get("en").value = port.address is not None
        await RisingEdge(dut.clk)
        for port, line in shown:
            assert int(port.get("data").value) == line, f"{port.name} shows something else"
        shown = []
        # A bank takes one read and one write a cycle; a read does not see the write beside it.
        results: list[tuple[_Port, int]] = []
        for ports in (readers, writers):
            taken: set[int] = set()
            for port in ports:
                if port.address is None:
                    continue
                bank = port.address // (LINES // BANKS)
                may = bank not in taken
                assert bool(port.get("ready").value) == may, f"{port.name}: ready must be {may}"
                taken.add(bank)
                if not may:
                    port.waited += 1
                    continue
                results.append((port, port.address))
                port.address = None
        for port, place in results:
            if port in readers:
                shown.append((port, model[place]))
                bytes_read += LINE
        for port, place in results:
            if port in writers:
                for n in range(LINE):
                    if port.mask >> n & 1:
                        byte = 255 << 8 * n
                        model[place] = model[place] & ~byte | port.line & byte
                        bytes_written += 1
    for port in (*readers, *writers):
        port.get("en").value = 0
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    assert int(dut.count_scratchpad_read.value) == bytes_read
    assert int(dut.count_scratchpad_write.value) == bytes_written
    for port in (*readers, *writers):
        # The last wait is counted after the loop, unless the port was withdrawn.
        assert port.conflicts() - before[port.name] == port.waited, port.name
