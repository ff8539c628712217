# SPDX-License-Identifier: BSD-2-Clause
"""Agents for AXI4: memories that answer, and checkers of the protocol's rules."""

from collections import deque
from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.task import Task

from diptych.memory.axi import (
    BEAT_BYTES,
    MAX_BEATS,
    PAGE_BYTES,
    ReadAddress,
    ReadData,
    WriteAddress,
    WriteData,
    WriteResponse,
)
from diptych_tb.streams import Pause, StreamChecker, StreamDriver, StreamMonitor

__all__ = ["AxiReadChecker", "AxiReadMemory", "AxiWriteChecker", "AxiWriteMemory", "beat_of"]


def beat_of(memory: bytes | bytearray, address: int) -> int:
    """Return the beat at an address."""
    return int.from_bytes(memory[address : address + BEAT_BYTES], "little")


def _check_burst(burst: Any) -> int:
    """Check a burst's address and length; return its beats."""
    beats, address = burst["len"] + 1, burst["addr"]
    assert beats <= MAX_BEATS, f"burst must have at most 16 beats, not {beats}"
    assert address % BEAT_BYTES == 0, f"address must be a multiple of 64, not {address:#x}"
    end = address % PAGE_BYTES + beats * BEAT_BYTES
    assert end <= PAGE_BYTES, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
    return beats


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
            beats = _check_burst(burst)
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


class AxiWriteChecker:
    """Fails the test when AW, W or B break a rule of AXI4, or of this machine's part of it.

    Rules of bursts as of :class:`AxiReadChecker`; W has ``last`` with the final beat of each burst
    only; B comes after that beat, once for each burst and in order, with its id and OKAY.

    Attributes
    ----------
    bursts, beats, responses : int
        How many were seen.
    """

    def __init__(self, dut: Any, prefix: str) -> None:
        self.bursts = self.beats = self.responses = 0
        self._asked: deque[tuple[int, int]] = deque()
        self._written: deque[int] = deque()
        self._left = 0
        shapes = {"aw": WriteAddress(), "w": WriteData(), "b": WriteResponse()}
        self._rules = [StreamChecker(dut, f"{prefix}__{n}", s) for n, s in shapes.items()]
        seen = {n: StreamMonitor(dut, f"{prefix}__{n}", s, passive=True) for n, s in shapes.items()}
        self.tasks: list[Task[None]] = [
            cocotb.start_soon(self._check_addresses(seen["aw"])),
            cocotb.start_soon(self._check_beats(seen["w"])),
            cocotb.start_soon(self._check_responses(seen["b"])),
        ]

    async def _check_addresses(self, monitor: StreamMonitor) -> None:
        while True:
            burst = await monitor.beats.get()
            self._asked.append((burst["id"], _check_burst(burst)))
            self.bursts += 1

    async def _check_beats(self, monitor: StreamMonitor) -> None:
        while True:
            beat = await monitor.beats.get()
            # This machine asks before it sends.
            assert self._asked, "W must follow its AW"
            identity, beats = self._asked[0]
            self._left = self._left or beats
            assert beat["last"] == (self._left == 1), f"W has last {beat['last']} too early or late"
            self._left -= 1
            self.beats += 1
            if not self._left:
                self._asked.popleft()
                self._written.append(identity)

    async def _check_responses(self, monitor: StreamMonitor) -> None:
        while True:
            response = await monitor.beats.get()
            assert self._written, "B must follow the last beat of its burst"
            expected = {"resp": 0, "id": self._written.popleft()}
            assert response == expected, f"B must be {expected}, not {response}"
            self.responses += 1


class AxiWriteMemory:
    """Takes the writes of a design into ``memory``, in order.

    Attributes
    ----------
    written : set of int
        Addresses of bytes that were written, for a test to clear.
    """

    def __init__(
        self, dut: Any, prefix: str, memory: bytearray, pause: Pause | None = None
    ) -> None:
        self.memory = memory
        self.written: set[int] = set()
        self._driver = StreamDriver(dut, f"{prefix}__b", WriteResponse(), pause)
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
