# SPDX-License-Identifier: BSD-2-Clause
"""Checks the protocol rules of an AXI4 port while a test runs."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from amaranth.hdl import ShapeLike
from numpy.typing import NDArray

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
from diptych_sim.host.stretches import bits, levels
from diptych_sim.host.triggers import (
    RisingEdge,
    Stretch,
    Task,
    catch_up,
    clock_of_top,
    start_watching,
)

__all__ = ["AxiReadChecker", "AxiWriteChecker"]

Cycles = NDArray[np.int64]
Words = NDArray[np.uint64]
"""Payloads: rows of words."""
_IDENTITY, _LAST = (
    (field.offset, field.width) for field in (ReadData()[name] for name in ("id", "last"))
)


def _check_burst(burst: Any) -> int:
    """Check a burst's address and length; return its beats."""
    beats, address = burst["len"] + 1, burst["addr"]
    assert beats <= MAX_BEATS, f"burst must have at most {MAX_BEATS} beats, not {beats}"
    assert address % BEAT_BYTES == 0, f"address must be a multiple of 64, not {address:#x}"
    end = address % PAGE_BYTES + beats * BEAT_BYTES
    assert end <= PAGE_BYTES, f"burst of {beats} beats at {address:#x} crosses 4 KiB"
    return beats


class _Found(NamedTuple):
    """Transfers on a channel in a stretch of cycles, up to where one does not stay until ready."""

    cycles: Cycles
    words: Words
    broken: str | None


class _Channel:
    """What is on a channel, a stretch of cycles after the other."""

    def __init__(self, what: str, valid: Any, ready: Any, payload: Any) -> None:
        self._what, self._valid, self._ready, self._payload = what, valid, ready, payload
        self._waits = False

    def look(self, first: int, end: int) -> _Found:
        """Look at the next cycles."""
        valid = levels(self._valid, first, end)
        if not self._waits and not valid.any():
            return _Found(np.zeros(0, np.int64), np.zeros((0, 1), np.uint64), None)
        moves = valid & levels(self._ready, first, end)
        waits = np.append(self._waits, valid & ~moves)
        self._waits, waited = bool(waits[-1]), waits[:-1]
        begins, words = self._payload.history(first, end)
        changed = np.zeros(end - first, np.bool_)
        changed[(begins if begins[0] == first else begins[1:]) - first] = True
        broken, at = None, np.flatnonzero(waited & (changed | ~valid))
        if len(at):
            broken = self._broken(bool(valid[at[0]]), first + int(at[0]))
            moves = moves[: at[0]]
        cycles = np.flatnonzero(moves) + first
        return _Found(cycles, words[np.searchsorted(begins, cycles, side="right") - 1], broken)

    def _broken(self, valid: bool, cycle: int) -> str:
        if not valid:
            return f"{self._what}: valid must stay until ready"
        before, after = (
            int.from_bytes(self._payload.history(n, n + 1)[1][0].tobytes(), "little")
            for n in (cycle - 1, cycle)
        )
        return f"{self._what}: payload must stay until ready, but {before:#x} became {after:#x}"


class _Checker:
    """Watches channels; sleeps while nothing is valid."""

    def __init__(self, dut: Any, prefix: str) -> None:
        self._dut, self._prefix = dut, prefix
        # The clock of a part inside the design rises when its registers have changed already.
        self._edge = RisingEdge(clock_of_top())
        self.tasks: list[Task[None]] = []

    def _watch(
        self,
        channel: str,
        shape: ShapeLike,
        take: Callable[[Any, int], None],
        take_all: Callable[[Cycles, Words], bool] | None = None,
    ) -> None:
        """Call ``take`` with each transfer and its cycle; check that what is valid stays.

        Of many transfers ``take_all`` is told first: it returns whether it has taken them, as no
        rule is broken.
        """
        name = f"{self._prefix}__{channel}"
        valid = self._dut[f"{name}__valid"]
        ready = self._dut[f"{name}__ready"]
        payload = self._dut[f"{name}__payload"]
        unpack = Fields(shape).unpack
        what = channel.upper()

        async def run_stretches() -> None:
            stretch = Stretch()
            channel = _Channel(what, valid, ready, payload)
            while True:
                await stretch
                now = current_cycle() + 1 - stretch.end  # what is the cycle 0 of the engine
                found = channel.look(stretch.first, stretch.end)
                if len(found.cycles) and not (
                    take_all and take_all(found.cycles + now, found.words)
                ):
                    for cycle, words in zip(found.cycles.tolist(), found.words, strict=True):
                        take(unpack(int.from_bytes(words.tobytes(), "little")), cycle + now)
                assert found.broken is None, found.broken

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

        self.tasks.append(start_watching(run_stretches() if Stretch is not None else run()))


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
        self._watch("r", ReadData(), self._take_beat, self._take_beats)

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

    def _take_beats(self, cycles: Cycles, words: Words) -> bool:
        """Take beats if all of them are what :meth:`_take_beat` lets pass."""
        count, bursts = 0, []
        for burst in self._asked:
            bursts.append(burst)
            count += burst[2]
            if count >= len(cycles):
                break
        else:
            return False
        asked, identity, left = np.array(bursts).T
        ends = np.cumsum(left)
        number = np.arange(len(cycles))
        burst = np.searchsorted(ends, number, side="right")
        good = (
            (cycles > asked[burst])
            & (bits(words, *_IDENTITY) == identity[burst].astype(np.uint64))
            & ((bits(words, *_LAST) != 0) == (number + 1 == ends[burst]))
        )
        if not good.all():
            return False
        for _ in bursts:
            self._asked.popleft()
        if count > len(cycles):
            self._asked.appendleft((*bursts[-1][:2], count - len(cycles)))
        self.beats += len(cycles)
        return True

    def check_finished(self) -> None:
        """Fail if a burst is not answered."""
        catch_up()
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
        catch_up()
        open_bursts = len(self._asked) + len(self._written)
        assert not open_bursts, f"{open_bursts} bursts are not written or not answered"
        assert not self._early, f"{len(self._early)} beats belong to no burst"
