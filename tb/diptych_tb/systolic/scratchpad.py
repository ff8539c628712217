# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the scratchpad: all ports at random, against a model that arbitrates alike."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.config import ACTIVATION_BITS
from diptych_sim.host.clocking import start_clock_and_reset

LINE = int(os.environ["DUT_LINE"])
LINES = int(os.environ["DUT_SIZE"]) // LINE
BANKS = int(os.environ["DUT_BANKS"])
GROUP = int(os.environ["DUT_GROUP"])
SIZES = {"read_w": GROUP * LINE, "write_l": 64}
"""Elements of a port that is not a line wide."""
# First in priority first.
READERS = ("read_x", "read_w", "read_v", "read_s")
WRITERS = ("write_v", "write_l")
CYCLES = 1200


class _Port:
    def __init__(self, dut: Any, name: str) -> None:
        self.name = name
        self._dut = dut
        self.size = SIZES.get(name, LINE)
        self.bits = 8 if name in ("read_w", "read_s") else ACTIVATION_BITS
        self.address: int | None = None
        self.data = 0
        self.mask = 0
        self.waited = 0
        self.wide = True
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
    model: dict[int, int] = {}  # elements, signed
    bank_bytes = LINES // BANKS * LINE
    places = [bank * bank_bytes + rng.randrange(bank_bytes // LINE) * LINE for bank in range(BANKS)]
    places += [places[0] // (2 * LINE) * 2 * LINE, places[0] // (2 * LINE) * 2 * LINE + LINE]
    # A memory keeps what the test before left: write all that will be read.
    loader = writers[-1]
    loader.get("en").value, loader.get("mask").value = 1, 2**64 - 1
    begins = {
        at // 64 * 64
        for place in places
        for first in (place // (GROUP * LINE) * GROUP * LINE, place // 64 * 64)
        for at in (first, first + GROUP * LINE - 1)
    }
    written = 0  # bits
    for begin in sorted(begins):
        contents = [rng.randrange(-2048, 2048) for _ in range(64)]
        model |= {begin + n: value for n, value in enumerate(contents)}
        loader.get("address").value = begin // 64
        loader.get("data").value = sum(v % 2**12 << 12 * n for n, v in enumerate(contents))
        dut.write_l_wide.value = wide = rng.randrange(2)
        written += 64 * (12 if wide else 8)
        await RisingEdge(dut.clk)
    loader.get("en").value = 0
    await RisingEdge(dut.clk)
    read = 0
    assert int(dut.count_scratchpad_write.value) == written // 8
    before = {port.name: port.conflicts() for port in (*readers, *writers)}
    shown: list[tuple[_Port, int]] = []

    def choose() -> int:
        return rng.choice(places if rng.random() < spread else places[-2:])

    for _ in range(CYCLES):
        for port, share in [(p, reads) for p in readers] + [(p, writes) for p in writers]:
            if port.address is None and rng.random() < share:
                port.address = choose() // port.size * port.size
                port.get("address").value = port.address // port.size
                if port in writers:
                    port.data, port.mask = (
                        rng.getrandbits(port.bits * port.size),
                        rng.getrandbits(port.size),
                    )
                    port.get("data").value, port.get("mask").value = port.data, port.mask
                    if port is loader:
                        port.wide = bool(rng.randrange(2))
                        dut.write_l_wide.value = port.wide
            port.get("en").value = port.address is not None
        await RisingEdge(dut.clk)
        for port, value in shown:
            assert int(port.get("data").value) == value, f"{port.name} shows something else"
        shown = []
        # A bank takes one read and one write a cycle; a read does not see the write beside it.
        results: list[tuple[_Port, int]] = []
        for ports in (readers, writers):
            taken: set[int] = set()
            for port in ports:
                if port.address is None:
                    continue
                bank = port.address // bank_bytes
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
                begin = place // port.size * port.size
                cells = (model[begin + n] % 2**port.bits for n in range(port.size))
                shown.append((port, sum(v << port.bits * n for n, v in enumerate(cells))))
                read += port.bits * port.size
        for port, place in results:
            if port in writers:
                for n in range(port.size):
                    if port.mask >> n & 1:
                        value = port.data >> port.bits * n & 2**port.bits - 1
                        top = 2 ** (port.bits - 1)
                        model[place + n] = (value ^ top) - top
                        written += port.bits if port.wide else 8
    for port in (*readers, *writers):
        port.get("en").value = 0
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    assert int(dut.count_scratchpad_read.value) == read // 8
    assert int(dut.count_scratchpad_write.value) == written // 8
    for port in (*readers, *writers):
        # The last wait is counted after the loop, unless the port was withdrawn.
        assert port.conflicts() - before[port.name] == port.waited, port.name
