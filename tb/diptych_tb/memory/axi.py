# SPDX-License-Identifier: BSD-2-Clause
"""Agents for AXI4 reads: a memory that answers, and a checker of the protocol's rules."""

from collections import deque
from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.task import Task

from diptych.memory.axi import BEAT_BYTES, ReadAddress, ReadData
from diptych_tb.streams import Pause, StreamChecker, StreamDriver, StreamMonitor

__all__ = ["AxiReadChecker", "AxiReadMemory", "beat_of"]

_PAGE = 4096
_MAX_BEATS = 16


def beat_of(memory: bytes | bytearray, address: int) -> int:
    """Return the beat at an address."""
    return int.from_bytes(memory[address : address + BEAT_BYTES], "little")


class AxiReadChecker:
    """Fails the test when AR or R break a rule of AXI4, or of this machine's part of it.

    Valid and payload stay until ready; bursts have at most 16 beats of 64 bytes, begin at a
    multiple of 64 and stay inside a page of 4 KiB; R answers the bursts in order, each beat with
    the burst's id, ``last`` with its final one only.

    Parameters
    ----------
    dut : HierarchyObject
        The design, not in reset any more.
    prefix : str
        Name of the port.

    Attributes
    ----------
    bursts, beats : int
        How many were seen.
    """

    def __init__(self, dut: Any, prefix: str) -> None:
        self.bursts = 0
        self.beats = 0
        self._left: deque[tuple[int, int]] = deque()
        self._rules = [
            StreamChecker(dut, f"{prefix}__ar", ReadAddress()),
            StreamChecker(dut, f"{prefix}__r", ReadData()),
        ]
        addresses = StreamMonitor(dut, f"{prefix}__ar", ReadAddress(), passive=True)
        answers = StreamMonitor(dut, f"{prefix}__r", ReadData(), passive=True)
        self.tasks: list[Task[None]] = [
            cocotb.start_soon(self._check_addresses(addresses)),
            cocotb.start_soon(self._check_answers(answers)),
        ]

    async def _check_addresses(self, monitor: StreamMonitor) -> None:
        while True:
            burst = await monitor.beats.get()
            beats, address = burst["len"] + 1, burst["addr"]
            assert beats <= _MAX_BEATS, f"burst must have at most 16 beats, not {beats}"
            assert address % BEAT_BYTES == 0, f"address must be a multiple of 64, not {address:#x}"
            end = address % _PAGE + beats * BEAT_BYTES
            assert end <= _PAGE, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
            self.bursts += 1
            self._left.append((burst["id"], beats))

    async def _check_answers(self, monitor: StreamMonitor) -> None:
        while True:
            beat = await monitor.beats.get()
            assert self._left, "R must answer a burst"
            identity, left = self._left.popleft()
            assert beat["id"] == identity, f"R must have id {identity}, not {beat['id']}"
            assert beat["last"] == (left == 1), f"R has last {beat['last']}, {left} beats are left"
            self.beats += 1
            if left > 1:
                self._left.appendleft((identity, left - 1))


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
