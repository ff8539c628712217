# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's memory: every port at random, against a model that arbitrates alike."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.mesh.sram import BANKS
from diptych_sim.host.clocking import start_clock_and_reset

CYCLES = 1500
# First in priority first.
READERS = ("pipe_a", "pipe_b", "receiver", "transmitter", "scalar")
WRITERS = ("receiver_write", "pipe_write", "scalar_write", "loader_write")


class _Reader:
    def __init__(self, dut: Any, name: str) -> None:
        self.valid = getattr(dut, f"{name}__valid")
        self.address = getattr(dut, f"{name}__address")
        self.ready = getattr(dut, f"{name}__ready")
        self.data = getattr(dut, f"{name}__data")
        self.pair = getattr(dut, f"{name}__pair", None)
        self.upper = getattr(dut, f"{name}__upper", None)
        self.pairs = False
        self.asked: int | None = None
        self.above: int | None = None
        """Expected ``upper``; None until the first pair."""
        self.shows: int | None = None
        """Expected ``data``; None until the first read."""
        self.valid.value = 0


class _Writer:
    def __init__(self, dut: Any, name: str) -> None:
        self.valid = getattr(dut, f"{name}__valid")
        self.address = getattr(dut, f"{name}__address")
        self.data = getattr(dut, f"{name}__data")
        self.mask = getattr(dut, f"{name}__mask")
        self.ready = getattr(dut, f"{name}__ready")
        self.asked: tuple[int, int, int] | None = None
        self.valid.value = 0


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(reads=[0.3, 1.0], writes=[0.2, 1.0], span=[4, 32])
async def reads_what_was_written(dut: Any, reads: float, writes: float, span: int) -> None:
    """``reads`` and ``writes`` are how often a port asks; ``span`` words make conflicts."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {reads} {writes} {span}")
    words = int(os.environ["DUT_SIZE"]) // 8
    base = rng.randrange(words - span + 1)
    model = dict.fromkeys(range(words), 0)
    readers = [_Reader(dut, name) for name in READERS]
    writers = [_Writer(dut, name) for name in WRITERS]
    await start_clock_and_reset(dut)
    # A memory keeps what the test before left: write all that will be read.
    writer = writers[-1]
    for word in range(base, base + span):
        writer.valid.value, writer.address.value = 1, word
        writer.data.value, writer.mask.value = 0, 255
        await RisingEdge(dut.clk)
    writer.valid.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    read_bytes, written_bytes = int(dut.count_sram_read.value), int(dut.count_sram_write.value)
    assert written_bytes == 8 * span
    conflicts = 0
    for _ in range(CYCLES):
        for reader in readers:
            if reader.asked is None and rng.random() < reads:
                reader.asked = base + rng.randrange(span)
                if reader.pair is not None:
                    even = reader.asked // 2 * 2
                    reader.pairs = rng.random() < 0.5 and base <= even < base + span - 1
                    reader.asked = even if reader.pairs else reader.asked
                    reader.pair.value = reader.pairs
                reader.address.value = reader.asked
            reader.valid.value = reader.asked is not None
        for writer in writers:
            if writer.asked is None and rng.random() < writes:
                writer.asked = (base + rng.randrange(span), rng.getrandbits(64), rng.getrandbits(8))
                writer.address.value, writer.data.value, writer.mask.value = writer.asked
            writer.valid.value = writer.asked is not None
        await RisingEdge(dut.clk)
        banks: list[set[int]] = []  # of all that ask
        for name, reader in zip(READERS, readers, strict=True):
            if reader.shows is not None:
                assert int(reader.data.value) == reader.shows, f"{name} shows something else"
            if reader.above is not None and reader.upper is not None:
                assert int(reader.upper.value) == reader.above, f"{name} shows something else above"
            if reader.asked is None:
                continue
            wanted = {(reader.asked + n) % BANKS for n in range(1 + reader.pairs)}
            may = len(banks) < 2 and not wanted & set().union(*banks)
            assert int(reader.ready.value) == may, f"{name}: ready must be {may}"
            conflicts += not may
            banks.append(wanted)
            if may:
                reader.shows = model[reader.asked]
                if reader.pairs:
                    reader.above = model[reader.asked + 1]
                reader.asked = None
                read_bytes += 8 * len(wanted)
        writing = next((w for w in writers if w.asked), None)
        for writer in writers:
            if writer.asked:
                assert int(writer.ready.value) == (writer is writing)
        if writing is not None and writing.asked is not None:
            address, data, mask = writing.asked
            for byte in range(8):
                if mask >> byte & 1:
                    unchanged = model[address] & ~(255 << 8 * byte)
                    model[address] = unchanged | data & 255 << 8 * byte
                    written_bytes += 1
            writing.asked = None
    assert conflicts > CYCLES // 10, "the stimulus must make conflicts"
    for port in (*readers, *writers):
        port.valid.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    assert int(dut.count_sram_read.value) == read_bytes
    assert int(dut.count_sram_write.value) == written_bytes
