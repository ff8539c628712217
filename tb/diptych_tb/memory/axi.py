# SPDX-License-Identifier: BSD-2-Clause
"""Agents for AXI4: memories that answer."""

from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.task import Task

from diptych.memory.axi import (
    BEAT_BYTES,
    ReadAddress,
    ReadData,
    WriteAddress,
    WriteData,
    WriteResponse,
)
from diptych_sim.host.streams import Pause, StreamDriver, StreamMonitor

__all__ = ["AxiReadMemory", "AxiWriteMemory", "beat_of"]


def beat_of(memory: bytes | bytearray, address: int) -> int:
    """Return the beat at an address."""
    return int.from_bytes(memory[address : address + BEAT_BYTES], "little")


class AxiReadMemory:
    """Answers the reads of a design from ``memory``, in order.

    Parameters
    ----------
    dut : HierarchyObject
        The design.
    prefix : str
        Name of the port.
    memory : bytearray
        Contents from address 0.
    pause : Pause, optional
        Whether to let a cycle pass, on AR and on R.
    """

    def __init__(
        self, dut: Any, prefix: str, memory: bytes | bytearray, pause: Pause | None = None
    ) -> None:
        self.memory = memory
        self._driver = StreamDriver(dut, f"{prefix}__r", ReadData(), pause)
        self._dut = dut
        self._prefix = prefix
        self._pause = pause
        self._bursts: Queue[Any]

    def start(self) -> None:
        """Begin to answer; the design is not in reset any more."""
        monitor = StreamMonitor(self._dut, f"{self._prefix}__ar", ReadAddress(), self._pause)
        self._bursts = monitor.beats
        self.task: Task[None] = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            burst = await self._bursts.get()
            await self._driver.send(
                {
                    "data": beat_of(self.memory, burst["addr"] + BEAT_BYTES * index),
                    "last": int(index == burst["len"]),
                    "id": burst["id"],
                }
                for index in range(burst["len"] + 1)
            )


class AxiWriteMemory:
    """Takes the writes of a design into ``memory``, in order.

    Parameters
    ----------
    dut, prefix, memory
        As of :class:`AxiReadMemory`.
    pause : Pause, optional
        Whether to let a cycle pass, on AW and on W.
    answer_pause : Pause, optional
        The same on B; ``pause`` by default.

    Attributes
    ----------
    written : set of int
        Addresses of bytes that were written, for a test to clear.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        memory: bytearray,
        pause: Pause | None = None,
        *,
        answer_pause: Pause | None = None,
    ) -> None:
        self.memory = memory
        self.written: set[int] = set()
        self._driver = StreamDriver(dut, f"{prefix}__b", WriteResponse(), answer_pause or pause)
        self._dut, self._prefix, self._pause = dut, prefix, pause

    def start(self) -> None:
        """Begin to take; the design is not in reset any more."""
        bursts = StreamMonitor(self._dut, f"{self._prefix}__aw", WriteAddress(), self._pause)
        beats = StreamMonitor(self._dut, f"{self._prefix}__w", WriteData(), self._pause)
        self.task: Task[None] = cocotb.start_soon(self._run(bursts.beats, beats.beats))

    async def _run(self, bursts: Queue[Any], beats: Queue[Any]) -> None:
        while True:
            burst = await bursts.get()
            for index in range(burst["len"] + 1):
                beat = await beats.get()
                base = burst["addr"] + BEAT_BYTES * index
                data = beat["data"].to_bytes(BEAT_BYTES, "little")
                for n in range(BEAT_BYTES):
                    if beat["strb"] >> n & 1:
                        assert base + n not in self.written, f"{base + n:#x} is written twice"
                        self.written.add(base + n)
                        self.memory[base + n] = data[n]
            await self._driver.send([{"resp": 0, "id": burst["id"]}])
