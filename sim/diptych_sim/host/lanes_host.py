# SPDX-License-Identifier: BSD-2-Clause
"""Host of a mesh on lanes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from diptych_sim.engine.errors import HangError
from diptych_sim.engine.lanes.checkpoint import Keeper
from diptych_sim.engine.lanes.mesh import LaneMesh, Word
from diptych_sim.engine.lanes.signal_handles import lane_tiles
from diptych_sim.engine.lanes.sram import read_sram, write_sram

from .hang import PATIENCE, STILL_BUSY, hang_message
from .jobs import Counters, MeshJob, Words
from .mesh_counters import LaneCounters
from .mesh_host import MeshHost

__all__ = ["LanesHost", "completed"]

R = TypeVar("R")
_ENDLESS = 10_000_000
"""Cycles that sending may take."""


def completed(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return what a workload returns; on lanes its operations never wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("An operation of a host on lanes waits for something")


class LanesHost(MeshHost):
    """A mesh on lanes, reset, and its host.

    A run that is saved notes the result of each operation. One that resumes from a checkpoint asks
    for the same operations again: those that had ended return what they had, and the one that was
    under way is continued.

    Attributes
    ----------
    mesh : LaneMesh
        The mesh.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh; it is reset.
    job : MeshJob
        What runs.

    Raises
    ------
    CheckpointError
        If a checkpoint to resume cannot be read, or is not of this run.
    """

    def __init__(self, mesh: LaneMesh, job: MeshJob) -> None:
        super().__init__(job)
        self.mesh = mesh
        self._tiles = LaneCounters(mesh)
        self._threads = mesh.threads
        self._patience: _Patience | None = None
        self._feeds, self._resumed_feeds = 0, 0
        self._sent = [0] * mesh.rows  # of the last feed, before the checkpoint
        self._came: list[Word] = []
        self._results: list[Any] = []  # of operations that have ended
        self._ended: deque[Any] = deque()  # those of the checkpoint
        self._state: Callable[[], Any] = lambda: None  # of the one under way
        self._resumed: Any = None
        mesh.reset()
        image = job.read_image()
        if image is not None:
            write_sram(mesh, image)
        self._keeper = None
        if job.checkpoint is not None:
            self._keeper = Keeper(job.checkpoint, mesh, [job.identity()])
            if job.checkpoint.resume:
                self._resume()

    # --- checkpoints ---

    def _resume(self) -> None:
        assert self._keeper is not None
        notes, _ = self._keeper.resume()
        self._results = notes["results"]
        self._ended = deque(self._results)
        self._resumed, self._sent = notes["state"], notes["sent"]
        self._resumed_feeds = notes["feeds"]
        self._came = [Word(*word) for word in notes["came"]]
        if notes["patience"] is not None:
            self._patience = _Patience(self)
            self._patience.restore(notes["patience"])

    def _save(self) -> None:
        """Write a checkpoint, if it is time for one."""
        if self._keeper is None or self._keeper.left > 0:
            return
        self._collect()
        sent = [before + now for before, now in zip(self._sent, self.mesh.fed(), strict=True)]
        self._keeper.keep(
            {
                "results": self._results,
                "state": self._state(),
                "feeds": self._feeds,
                "sent": sent,
                "came": self._came,
                "patience": self._patience and self._patience.state(),
            }
        )

    def once(self, operation: Callable[[], R]) -> R:
        """Do something, or return its result from before the checkpoint; JSON can hold that."""
        if self._ended:
            return self._ended.popleft()
        result = operation()
        self._state, self._resumed = lambda: None, None
        if self._keeper is not None:
            self._results.append(result)
        return result

    def _initial(self, state: R) -> R:
        """Return the state an operation begins with: the checkpoint's, if it was under way."""
        resumed, self._resumed = self._resumed, None
        return state if resumed is None else resumed

    # --- running ---

    def _run(self, cycles: int, **until: Any) -> None:
        """Run for some cycles, less if something happens or a checkpoint is due before."""
        if self._keeper is not None:
            cycles = min(cycles, max(self._keeper.left, 1))
        self.mesh.run(cycles, threads=self._threads, **until)

    def _run_to(self, end: int, **until: Any) -> None:
        """Run to a cycle, or until something happens."""
        while (left := end - self.mesh.cycle) > 0:
            before = self.mesh.cycle
            self._run(left, **until)
            if self.mesh.cycle == before:
                return  # it has happened
            self._save()

    def _run_for(self, cycles: int, **until: Any) -> None:
        end = self._initial(self.mesh.cycle + cycles)
        self._state = lambda: end
        self._run_to(end, **until)

    def busy(self) -> bool:
        """Return whether a tile is busy now."""
        return self._tiles.busy()

    def progress(self) -> list[int]:
        """Return numbers of which one grows if a tile makes progress."""
        return self._tiles.progress()

    def hang(self, reason: str) -> NoReturn:
        """Raise the error of a mesh that hangs."""
        tiles = lane_tiles(self.mesh)
        message = hang_message(tiles, reason, lines=self.job.lines, colors=self.job.colors)
        raise HangError(message)

    def _patient(self) -> _Patience:
        if self._patience is None:
            self._patience = _Patience(self)
        return self._patience

    # --- operations ---

    def cycle(self) -> int:
        return self.once(lambda: self.mesh.cycle)

    def counters(self) -> Counters:
        return self.once(self._tiles.read_tiles)

    def read_sram(self, tiles: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[bytes]:
        found = self.once(lambda: [part.hex() for part in read_sram(self.mesh, tiles, spans)])
        return [bytes.fromhex(part) for part in found]

    def mark_start(self) -> None:
        """Do nothing: waveforms are recorded in a simulator."""

    def feed(self, words: Words) -> None:
        self._feeds += 1
        if self._feeds < self._resumed_feeds:
            return  # all of them had been sent
        if self._feeds > self._resumed_feeds:
            self._sent = [0] * self.mesh.rows
        self.mesh.feed([row[at:] for row, at in zip(words, self._sent, strict=True)])

    async def finish_sending(self) -> None:
        self.once(lambda: self._run_for(_ENDLESS, until="sent"))

    async def settle(self, more: int = 0) -> None:
        self.once(lambda: self._run_for(self.settle_cycles + more))

    async def until_busy(self) -> None:
        self.once(self._until_busy)

    def _until_busy(self) -> None:
        self._run_for(self.settle_cycles, until="any")
        if not self.busy():
            self.hang("no task has started")

    async def until_idle(self, limit: int) -> None:
        self.once(lambda: self._until_idle(limit))

    def _until_idle(self, limit: int) -> None:
        if self._resumed is None:
            self._patience = None
        patience = self._patient()
        end = self._initial(self.mesh.cycle + limit)
        self._state = lambda: end
        while True:
            self._run(patience.left(), until="none")
            if not self.busy():
                return
            patience.check()
            if self.mesh.cycle >= end:
                self.hang(f"it has not ended after {limit} cycles")
            self._save()

    async def until_rest(self, more: int) -> None:
        await self.settle(more)
        if self.once(self.busy):
            self.hang(STILL_BUSY)

    async def until_token(self, index: int, limit: int) -> tuple[int, int]:
        cycle, word = self.once(lambda: self._until_token(index, limit))
        return cycle, word

    def _until_token(self, index: int, limit: int) -> list[int]:
        patience = self._patient()
        end = self._initial(self.mesh.cycle + limit)
        self._state = lambda: end
        while True:
            if self.mesh.cycle >= end:
                self.hang(f"token {index} has not come within {limit} cycles")
            self._run(min(patience.left(), end - self.mesh.cycle), words=1)
            self._collect()
            for word in self._came:
                if word.row == 0:
                    self._came = []
                    return [word.cycle, word.data]
            patience.check()
            self._save()

    async def until_written(
        self, waited: list[int], written: list[int], limit: int
    ) -> tuple[list[int], Counters, Counters, int]:
        starts, before, after, end = self.once(lambda: self._until_written(waited, written, limit))
        return starts, before, after, end

    def _until_written(self, waited: list[int], written: list[int], limit: int) -> list[Any]:
        now = [self._tiles.count(name) for name in ("instructions", "sram_write")]
        first = [(n + more).tolist() for n, more in zip(now, (waited, written), strict=True)]
        arrays = [*first, [0] * len(waited), [more != 0 for more in written]]
        state: list[Any] = [None, self.mesh.cycle + limit, arrays]
        before, end, arrays = self._initial(state)
        issued, goals, starts, writing = map(np.array, arrays)
        self._state = lambda: [before, end, [a.tolist() for a in (issued, goals, starts, writing)]]
        while self.mesh.cycle < end:
            self._run(1)
            # The last of the instructions that wait has issued; now the first move issues.
            starting = (starts == 0) & (self._tiles.count("instructions") == issued)
            if starting.any():
                starts[starting] = self.mesh.cycle
                before = before or self._tiles.read_tiles()
            writing &= self._tiles.count("sram_write") != goals
            if starts.all() and not writing.any():
                return [starts.tolist(), before, self._tiles.read_tiles(), self.mesh.cycle]
            self._save()
        place = divmod(int(np.argmax(writing if writing.any() else starts == 0)), self.mesh.columns)
        self.hang(f"tile {place} has not ended its collective after {limit} cycles")

    def _collect(self) -> None:
        self._came += self.mesh.words()
        self.mesh.forget()

    def _drop(self) -> None:
        self._collect()
        self._came = []

    def collect(self) -> None:
        self.once(self._drop)

    async def read(self, words: int) -> Words:
        return self.once(lambda: self._read(words))

    def _read(self, words: int) -> Words:
        while True:
            self._collect()
            out: Words = [[] for _ in range(self.mesh.rows)]
            for word in self._came:
                out[word.row].append(word.data)
            if all(len(row) >= words for row in out):
                self._came = []
                return [row[:words] for row in out]
            seen = len(self._came)
            end = self.mesh.cycle + PATIENCE
            self._run_to(end)
            self._collect()
            if len(self._came) == seen:
                done = min(map(len, out))
                self.hang(f"results stopped after {done} of {words} words")


class _Patience:
    """Looks at the progress of all tiles every :data:`PATIENCE` cycles, from now on."""

    def __init__(self, host: LanesHost) -> None:
        self._host = host
        self._next = host.mesh.cycle + PATIENCE
        self._before = self._host.progress()

    def state(self) -> list[Any]:
        """Return what :meth:`restore` takes."""
        return [self._next, self._before]

    def restore(self, state: list[Any]) -> None:
        """Go on where another was."""
        self._next, self._before = state

    def left(self) -> int:
        """Return the cycles to the next look."""
        return self._next - self._host.mesh.cycle

    def check(self) -> None:
        """Look, if it is time.

        Raises
        ------
        HangError
            If a tile is busy, but none has made progress.
        """
        if self.left() > 0:
            return
        now = self._host.progress()
        if now == self._before and self._host.busy():
            self._host.hang(f"no tile made progress in {PATIENCE} cycles")
        self._before = now
        self._next += PATIENCE
