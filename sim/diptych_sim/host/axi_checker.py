# SPDX-License-Identifier: BSD-2-Clause
"""Checks the protocol rules of an AXI4 port while a test runs."""

from collections import deque
from collections.abc import Callable
from typing import Any

from amaranth.hdl import ShapeLike

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
from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.fields import Fields
from diptych_sim.host.triggers import RisingEdge, Task, clock_of_top, start_watching

__all__ = ["AxiReadChecker", "AxiWriteChecker"]


def _check_burst(burst: Any) -> int:
    """Check a burst's address and length; return its beats."""
    beats, address = burst["len"] + 1, burst["addr"]
    assert beats <= MAX_BEATS, f"burst must have at most {MAX_BEATS} beats, not {beats}"
    assert address % BEAT_BYTES == 0, f"address must be a multiple of 64, not {address:#x}"
    end = address % PAGE_BYTES + beats * BEAT_BYTES
    assert end <= PAGE_BYTES, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
    return beats


class _Checker:
    """Watches channels; sleeps while nothing is valid."""

    def __init__(self, dut: Any, prefix: str) -> None:
        self._dut, self._prefix = dut, prefix
        # The clock of a part inside the design rises when its registers have changed already.
        self._edge = RisingEdge(clock_of_top())
        self.tasks: list[Task[None]] = []

    def _watch(self, channel: str, shape: ShapeLike, take: Callable[[Any, int], None]) -> None:
        """Call ``take`` with each transfer and its cycle; check that what is valid stays."""
        name = f"{self._prefix}__{channel}"
        valid = self._dut[f"{name}__valid"]
        ready = self._dut[f"{name}__ready"]
        payload = self._dut[f"{name}__payload"]
        unpack = Fields(shape).unpack
        what = channel.upper()

        async def run() -> None:
            rises = RisingEdge(valid)
            waiting: int | None = None
            while True:
                await self._edge
                if not valid.value:
                    assert waiting is None, f"{what}: valid must stay until ready"
                    # A rise caused by this very edge comes after it, so none is missed.
                    await rises
                    continue
                bits = int(payload.value)
                assert waiting in (None, bits), (
                    f"{what}: payload must stay until ready, but {waiting:#x} became {bits:#x}"
                )
                waiting = bits
                if ready.value:
                    waiting = None
                    take(unpack(bits), current_cycle())

        self.tasks.append(start_watching(run()))


class AxiReadChecker(_Checker):
    """Fails the test when AR or R break a rule of AXI4, or of this machine's part of it.

    - Valid stays, and the payload does not change, until ready (AXI4 specification, A3.2.1).
    - Bursts begin at a multiple of 64, have at most 16 beats, and stay in a page of 4 KiB (A3.4.1).
    - R comes after its burst was taken (A3.3.1), in the order of the bursts, with as many beats as
      the burst asked for, each with its id, ``last`` with the final one only.

    Parameters
    ----------
    dut : HierarchyObject
        The design or a part of it, not in reset any more; its top has a ``clk``.
    prefix : str
        Name of the port.

    Attributes
    ----------
    bursts, beats : int
        How many were seen.
    """

    def __init__(self, dut: Any, prefix: str) -> None:
        super().__init__(dut, prefix)
        self.bursts = self.beats = 0
        self._asked: deque[tuple[int, int, int]] = deque()
        self._watch("ar", ReadAddress(), self._take_address)
        self._watch("r", ReadData(), self._take_beat)

    def _take_address(self, burst: Any, now: int) -> None:
        self._asked.append((now, burst["id"], _check_burst(burst)))
        self.bursts += 1

    def _take_beat(self, beat: Any, now: int) -> None:
        assert self._asked, "R must answer a burst"
        asked, identity, left = self._asked[0]
        assert now > asked, "R must come after its burst"
        assert beat["id"] == identity, f"R must have id {identity}, not {beat['id']}"
        assert beat["last"] == (left == 1), f"R has last {beat['last']}, {left} beats are left"
        self.beats += 1
        if left == 1:
            self._asked.popleft()
        else:
            self._asked[0] = (asked, identity, left - 1)

    def check_finished(self) -> None:
        """Fail if a burst is not answered."""
        assert not self._asked, f"{len(self._asked)} bursts are not answered"


class AxiWriteChecker(_Checker):
    """Fails the test when AW, W or B break a rule of AXI4, or of this machine's part of it.

    - Valid, payload and bursts: as of :class:`AxiReadChecker`.
    - W does not come before its AW, in the order of the bursts, with as many beats as its burst
      has, ``last`` with the final one only.
    - B comes after that beat was taken (A3.3.1), once for each burst, in order, with its id and
      OKAY.

    Attributes
    ----------
    bursts, beats, responses : int
        How many were seen.
    """

    def __init__(self, dut: Any, prefix: str) -> None:
        super().__init__(dut, prefix)
        self.bursts = self.beats = self.responses = 0
        self._asked: deque[tuple[int, int, int]] = deque()
        self._early: deque[tuple[int, int]] = deque()
        self._written: deque[tuple[int, int]] = deque()
        self._left = 0
        self._watch("aw", WriteAddress(), self._take_address)
        self._watch("w", WriteData(), self._take_beat)
        self._watch("b", WriteResponse(), self._take_response)

    def _take_address(self, burst: Any, now: int) -> None:
        self._asked.append((now, burst["id"], _check_burst(burst)))
        self.bursts += 1
        self._match()

    def _take_beat(self, beat: Any, now: int) -> None:
        self._early.append((now, beat["last"]))
        self.beats += 1
        assert len(self._early) == 1 or self._asked, "W must not come before its AW"
        self._match()

    def _match(self) -> None:
        """Match beats with bursts: those of one cycle are seen in any order."""
        while self._early and self._asked:
            now, last = self._early.popleft()
            asked, identity, beats = self._asked[0]
            assert now >= asked, "W must not come before its AW"
            self._left = self._left or beats
            assert last == (self._left == 1), f"W has last {last}, {self._left} beats are left"
            self._left -= 1
            if not self._left:
                self._asked.popleft()
                self._written.append((now, identity))

    def _take_response(self, response: Any, now: int) -> None:
        assert self._written, "B must answer a burst that was written"
        written, identity = self._written.popleft()
        assert now > written, "B must come after the last beat of its burst"
        assert response["id"] == identity, f"B must have id {identity}, not {response['id']}"
        assert response["resp"] == 0, f"B must be OKAY, not {response['resp']}"
        self.responses += 1

    def check_finished(self) -> None:
        """Fail if a burst is not written or not answered."""
        open_bursts = len(self._asked) + len(self._written)
        assert not open_bursts, f"{open_bursts} bursts are not written or not answered"
        assert not self._early, f"{len(self._early)} beats belong to no burst"
