# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the HBM: contents, order, latency and bandwidth."""

import os
import random
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.memory.axi import (
    BEAT_BYTES,
    ReadAddress,
    ReadData,
    WriteAddress,
    WriteData,
    WriteResponse,
)
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import StreamDriver, StreamMonitor, sometimes
from diptych_tb.memory.axi import beat_of

SIZE = 2**14
LATENCY = int(os.environ["DUT_LATENCY"])
RATE = int(os.environ["DUT_BYTES_PER_CYCLE"])


async def _fill(host: StreamDriver, memory: bytes) -> None:
    await host.send(
        beat_of(memory, address) | address // BEAT_BYTES << 8 * BEAT_BYTES
        for address in range(0, len(memory), BEAT_BYTES)
    )


def _drivers(dut: Any, pause: Any = None) -> tuple[StreamDriver, StreamDriver]:
    host = StreamDriver(dut, "host", unsigned(len(dut.host__payload)))
    dut.axi__aw__valid.value = dut.axi__w__valid.value = 0
    return host, StreamDriver(dut, "axi__ar", ReadAddress(), pause)


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def answers_with_what_the_host_wrote(dut: Any, idle: float, stall: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    host, ar = _drivers(dut, sometimes(rng, idle))
    await start_clock_and_reset(dut)
    r = StreamMonitor(dut, "axi__r", ReadData(), sometimes(rng, stall))
    checker = AxiReadChecker(dut, "axi")
    memory = rng.randbytes(SIZE)
    await _fill(host, memory)
    bursts = []
    for _ in range(60):
        beats = rng.choice([1, 1, 2, 5, 16, rng.randint(1, 16)])
        page = rng.randrange(SIZE // 4096) * 4096
        address = page + BEAT_BYTES * rng.randint(0, 4096 // BEAT_BYTES - beats)
        bursts.append({"addr": address, "len": beats - 1, "id": rng.randrange(4)})
    cocotb.start_soon(ar.send(bursts))
    total = 0
    for burst in bursts:
        for index in range(burst["len"] + 1):
            beat = await r.beats.get()
            assert beat["data"] == beat_of(memory, burst["addr"] + BEAT_BYTES * index), burst
            total += 1
    await ClockCycles(dut.clk, 4)
    assert r.beats.empty()
    assert checker.beats == total
    assert int(dut.count_hbm_read.value) == BEAT_BYTES * total


@cocotb.test(timeout_time=50, timeout_unit="us")
async def takes_its_latency(dut: Any) -> None:
    _, ar = _drivers(dut)
    dut.axi__r__ready.value = 1
    await start_clock_and_reset(dut)
    await ClockCycles(dut.clk, 8)
    for _ in range(3):
        await ar.send([{"addr": 0, "len": 0, "id": 0}])  # returns in the cycle after
        cycles = 1
        while not dut.axi__r__valid.value:
            await RisingEdge(dut.clk)
            cycles += not dut.axi__r__valid.value
        assert cycles == LATENCY, f"latency must be {LATENCY}, not {cycles}"
        await ClockCycles(dut.clk, 4)


@cocotb.test(timeout_time=50, timeout_unit="us")
async def leaves_at_its_bandwidth(dut: Any) -> None:
    """Never more than was granted, and nothing less once bursts queue up."""
    _, ar = _drivers(dut)
    dut.axi__r__ready.value = 1
    await start_clock_and_reset(dut)
    bursts = 40
    cocotb.start_soon(ar.send([{"addr": 0, "len": 15, "id": 0}] * bursts))
    when = []
    cycle = 0
    while len(when) < 16 * bursts:
        await RisingEdge(dut.clk)
        cycle += 1
        if dut.axi__r__valid.value:
            when.append(cycle)
    for first in range(0, len(when), 7):
        for last in range(first + 1, len(when), 31):
            moved = BEAT_BYTES * (last - first)
            # Two beats may have been saved up.
            assert moved <= RATE * (when[last] - when[first]) + 2 * BEAT_BYTES
    # 16 bursts are outstanding: enough to hide this latency at this bandwidth.
    if 16 * 16 * BEAT_BYTES >= RATE * (LATENCY + 20):
        spent = when[-1] - when[32]
        ideal = BEAT_BYTES * (len(when) - 33) / RATE
        assert spent <= ideal + 2, f"{spent} cycles instead of {ideal}"


@cocotb.test(timeout_time=50, timeout_unit="us")
async def keeps_sixteen_bursts_outstanding(dut: Any) -> None:
    _, ar = _drivers(dut)
    dut.axi__r__ready.value = 0
    await start_clock_and_reset(dut)
    sending = cocotb.start_soon(ar.send([{"addr": 64 * n, "len": 3, "id": 0} for n in range(24)]))
    await ClockCycles(dut.clk, LATENCY + 40)
    assert not sending.done()
    assert not dut.axi__ar__ready.value
    dut.axi__r__ready.value = 1
    await sending


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def keeps_what_is_written(dut: Any, idle: float, stall: float) -> None:
    """Random bursts of writes, with reads of a region of their own beside them."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall}")

    host, ar = _drivers(dut, sometimes(rng, idle))
    aw = StreamDriver(dut, "axi__aw", WriteAddress(), sometimes(rng, idle))
    w = StreamDriver(dut, "axi__w", WriteData(), sometimes(rng, idle))
    await start_clock_and_reset(dut)
    r = StreamMonitor(dut, "axi__r", ReadData(), sometimes(rng, stall))
    b = StreamMonitor(dut, "axi__b", WriteResponse(), sometimes(rng, stall))
    checker = AxiWriteChecker(dut, "axi")
    memory = bytearray(rng.randbytes(SIZE))
    await _fill(host, bytes(memory))
    bursts, beats = [], []
    for _ in range(40):
        count = rng.choice([1, 2, 16])
        address = 4096 + BEAT_BYTES * rng.randrange(64 - count)
        bursts.append({"addr": address, "len": count - 1, "id": rng.randrange(4)})
        for index in range(count):
            data, strb = rng.randbytes(BEAT_BYTES), rng.choice([0, 2**64 - 1, rng.getrandbits(64)])
            last = int(index == count - 1)
            beats.append({"data": int.from_bytes(data, "little"), "strb": strb, "last": last})
            for n in range(BEAT_BYTES):
                if strb >> n & 1:
                    memory[address + BEAT_BYTES * index + n] = data[n]
    others = [
        {"addr": 64 * rng.randrange(48), "len": rng.randrange(16), "id": 1} for _ in range(30)
    ]

    async def ask_then_send() -> None:
        sent = 0
        for burst in bursts:
            await aw.send([burst])
            await w.send(beats[sent : sent + burst["len"] + 1])
            sent += burst["len"] + 1

    cocotb.start_soon(ask_then_send())
    cocotb.start_soon(ar.send(others))
    for _ in bursts:
        await b.beats.get()
    await ClockCycles(dut.clk, 2)
    assert (checker.bursts, checker.beats, checker.responses) == (40, len(beats), 40)
    assert int(dut.count_hbm_write.value) == BEAT_BYTES * len(beats)
    for burst in others:
        for index in range(burst["len"] + 1):
            beat = await r.beats.get()
            assert beat["data"] == beat_of(memory, burst["addr"] + BEAT_BYTES * index)
    await ar.send([{"addr": 4096 + 1024 * n, "len": 15, "id": 0} for n in range(4)])
    for index in range(64):
        beat = await r.beats.get()
        assert beat["data"] == beat_of(memory, 4096 + BEAT_BYTES * index), f"beat {index}"


@cocotb.test(timeout_time=50, timeout_unit="us")
async def reads_and_writes_share_the_bandwidth(dut: Any) -> None:
    _, ar = _drivers(dut)
    aw = StreamDriver(dut, "axi__aw", WriteAddress())
    w = StreamDriver(dut, "axi__w", WriteData())
    dut.axi__r__ready.value = dut.axi__b__ready.value = 1
    await start_clock_and_reset(dut)
    cocotb.start_soon(ar.send([{"addr": 0, "len": 15, "id": 0}] * 60))
    cocotb.start_soon(aw.send([{"addr": 4096, "len": 15, "id": 0}] * 60))
    cocotb.start_soon(
        w.send([{"data": 0, "strb": 0, "last": int(n % 16 == 15)} for n in range(960)])
    )
    await ClockCycles(dut.clk, LATENCY + 100)
    before = [int(dut.count_hbm_read.value), int(dut.count_hbm_write.value)]
    cycles = 8 * BEAT_BYTES * 8 // RATE
    await ClockCycles(dut.clk, cycles)
    after = [int(dut.count_hbm_read.value), int(dut.count_hbm_write.value)]
    moved = [b - a for a, b in zip(before, after, strict=True)]
    assert abs(sum(moved) - RATE * cycles) <= 2 * BEAT_BYTES
    # A burst of reads waits for its latency; where both can go, they take turns.
    assert moved[1] >= RATE * cycles // 2 - 2 * BEAT_BYTES
    assert moved[0] > 0
