# SPDX-License-Identifier: BSD-2-Clause
"""A memory behind AXI4 with latency, bandwidth and stalls that a test sets while it runs."""

import random
from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from diptych.memory.axi import (
    BEAT_BYTES,
    ReadAddress,
    ReadData,
    WriteAddress,
    WriteData,
    WriteResponse,
)
from diptych_sim.host.clocking import PERIOD_NS
from diptych_sim.host.streams import StreamDriver, StreamMonitor

__all__ = ["SlowMemory"]


class SlowMemory:
    """Answers reads and takes writes, each in order.

    Parameters
    ----------
    dut : HierarchyObject
        The design; :meth:`start` is called when it is not in reset any more.
    prefix : str
        Name of the port.
    rng : random.Random
        Draws the stalls.

    Attributes
    ----------
    contents : bytearray
        What it holds; may be replaced between programs.
    latency : int
        Cycles from an address to its first beat, and from a last beat to its response.
    rate : int
        Bytes a cycle, reads and writes together.
    stall : float
        How often each channel lets a cycle pass.
    """

    def __init__(self, dut: Any, prefix: str, rng: random.Random) -> None:
        self.contents = bytearray()
        self.latency, self.rate, self.stall = 1, BEAT_BYTES, 0.0
        self._dut, self._prefix, self._rng = dut, prefix, rng
        self._free = 0.0
        self._reads = StreamDriver(dut, f"{prefix}__r", ReadData(), self._pause)
        self._responses = StreamDriver(dut, f"{prefix}__b", WriteResponse(), self._pause)

    def start(self) -> None:
        """Begin to answer."""
        monitors = {
            name: StreamMonitor(self._dut, f"{self._prefix}__{name}", shape, self._pause)
            for name, shape in (("ar", ReadAddress()), ("aw", WriteAddress()), ("w", WriteData()))
        }
        self._due_reads: Queue[Any] = Queue()
        self._due_responses: Queue[Any] = Queue()
        cocotb.start_soon(self._note(monitors["ar"]))
        cocotb.start_soon(self._answer())
        cocotb.start_soon(self._write(monitors["aw"], monitors["w"]))
        cocotb.start_soon(self._respond())

    def _pause(self) -> bool:
        return self._rng.random() < self.stall

    async def _until(self, cycle: float) -> None:
        wait = round(cycle - get_sim_time("ns") / PERIOD_NS)
        if wait > 0:
            await ClockCycles(self._dut.clk, wait)

    async def _move(self) -> None:
        """Wait until the memory may move a beat."""
        now = get_sim_time("ns") / PERIOD_NS
        begin = max(now, self._free)
        self._free = begin + BEAT_BYTES / self.rate
        await self._until(begin)

    async def _note(self, addresses: StreamMonitor) -> None:
        while True:
            burst = await addresses.beats.get()
            self._due_reads.put_nowait((get_sim_time("ns") / PERIOD_NS + self.latency, burst))

    async def _answer(self) -> None:
        while True:
            due, burst = await self._due_reads.get()
            await self._until(due)
            for index in range(burst["len"] + 1):
                await self._move()
                at = burst["addr"] + BEAT_BYTES * index
                data = int.from_bytes(self.contents[at : at + BEAT_BYTES], "little")
                last = int(index == burst["len"])
                await self._reads.send([{"data": data, "last": last, "id": burst["id"]}])

    async def _write(self, addresses: StreamMonitor, beats: StreamMonitor) -> None:
        while True:
            burst = await addresses.beats.get()
            for index in range(burst["len"] + 1):
                beat = await beats.beats.get()
                await self._move()
                at = burst["addr"] + BEAT_BYTES * index
                for n in range(BEAT_BYTES):
                    if beat["strb"] >> n & 1:
                        self.contents[at + n] = beat["data"] >> 8 * n & 255
            due = get_sim_time("ns") / PERIOD_NS + self.latency
            self._due_responses.put_nowait((due, burst["id"]))

    async def _respond(self) -> None:
        while True:
            due, identity = await self._due_responses.get()
            await self._until(due)
            await self._responses.send([{"resp": 0, "id": identity}])
