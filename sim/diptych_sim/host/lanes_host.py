# SPDX-License-Identifier: BSD-2-Clause
"""Plays the host of a mesh that runs on lanes, as the testbenches do of one in Verilator."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from diptych.mesh.tile import CORE_COUNTERS, ROUTER_COUNTERS
from diptych_sim.engine.errors import HangError
from diptych_sim.engine.lanes.checkpoint import Checkpoint, Keeper
from diptych_sim.engine.lanes.mesh import LaneMesh, Word
from diptych_sim.engine.lanes.signal_handles import lane_tiles
from diptych_sim.engine.processes import threads
from diptych_sim.engine.simulate import Run, default_seed

__all__ = ["LaneHost"]

PATIENCE = 2000
"""Cycles without progress after which a mesh hangs."""
SETTLE = 100
"""Cycles after which what was sent to a tile has arrived, besides a cycle for each column."""
Rows = Sequence[Sequence[int]]


P = ParamSpec("P")
R = TypeVar("R")


def _operation(
    method: Callable[Concatenate[LaneHost, P], R],
) -> Callable[Concatenate[LaneHost, P], R]:
    """Note what an operation of a host returned, for JSON; a resumed run has that already."""

    @wraps(method)
    def operation(self: LaneHost, *args: P.args, **named: P.kwargs) -> R:
        return self.once(lambda: method(self, *args, **named))

    return operation


class LaneHost:
    """A mesh on lanes, reset, and what a host does with it.

    A run that is kept notes what each operation returned. One that goes on from a checkpoint asks
    for the same operations again: those that had ended return what they had, and the one that was
    under way goes on.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh; it is reset.
    lines : list of str
        Listing of the program, for the watchdog.
    colors : dict of int to str
        Names of colors, for it.
    checkpoint : Checkpoint or None
        Where the run is kept.
    about : sequence of str
        What makes the run what it is, as of :class:`.Keeper`.

    Raises
    ------
    CheckpointError
        If a checkpoint to resume cannot be read, or is not of this run.
    """

    def __init__(
        self,
        mesh: LaneMesh,
        *,
        lines: list[str],
        colors: dict[int, str],
        checkpoint: Checkpoint | None = None,
        about: Sequence[str] = (),
    ) -> None:
        self.mesh = mesh
        self.threads = threads()
        self.started = time.perf_counter()
        self._lines, self._colors = lines, colors
        self._patience: _Patience | None = None
        self._feeds, self._resumed_feeds = 0, 0
        self._sent = [0] * mesh.rows  # of the last feed, before the checkpoint
        self._came: list[Word] = []
        self._results: list[Any] = []  # of operations that have ended
        self._ended: deque[Any] = deque()  # those of the checkpoint
        self._state: Callable[[], Any] = lambda: None  # of the one under way
        self._resumed: Any = None
        mesh.reset()
        self._keeper = None
        if checkpoint is not None:
            self._keeper = Keeper(checkpoint, mesh, about)
            if checkpoint.resume:
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

    def _keep(self) -> None:
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
        """Do something, or return what it gave before the checkpoint; JSON can hold that."""
        if self._ended:
            return self._ended.popleft()
        result = operation()
        self._state, self._resumed = lambda: None, None
        if self._keeper is not None:
            self._results.append(result)
        return result

    def _begun(self, state: R) -> R:
        """Return the state that an operation begins with: that of the checkpoint, if it was under way."""
        resumed, self._resumed = self._resumed, None
        return state if resumed is None else resumed

    # --- running ---

    def _run(self, cycles: int, **until: Any) -> None:
        """Run for some cycles, less if something happens or a checkpoint is due before."""
        if self._keeper is not None:
            cycles = min(cycles, max(self._keeper.left, 1))
        self.mesh.run(cycles, threads=self.threads, **until)

    def _run_to(self, end: int, **until: Any) -> None:
        """Run to a cycle, or until something happens."""
        while (left := end - self.mesh.cycle) > 0:
            before = self.mesh.cycle
            self._run(left, **until)
            if self.mesh.cycle == before:
                return  # it has happened
            self._keep()

    def _run_for(self, cycles: int, **until: Any) -> None:
        end = self._begun(self.mesh.cycle + cycles)
        self._state = lambda: end
        self._run_to(end, **until)

    def finished(self) -> Run:
        """Return how long the mesh has run."""
        seconds = time.perf_counter() - self.started
        return Run(folder=Path(), tests=1, seed=default_seed(), seconds=seconds, cached=True)

    @_operation
    def cycle(self) -> int:
        """Return the cycles so far, with those of reset."""
        return self.mesh.cycle

    @_operation
    def counters(self) -> list[dict[str, int]]:
        """Return the counters of every tile, row by row."""
        return self._counters()

    def _counters(self) -> list[dict[str, int]]:
        names = [("core", name) for name in CORE_COUNTERS]
        names += [("router", name) for name in ROUTER_COUNTERS]
        values = {
            name: self.mesh.register(f"{part}.count_{name}").reshape(-1).tolist()
            for part, name in names
        }
        return [dict(zip(values, tile, strict=True)) for tile in zip(*values.values(), strict=True)]

    def count(self, name: str) -> np.ndarray:
        """Return a counter of the core of every tile, row by row, as it is now."""
        return self.mesh.register(f"core.count_{name}").reshape(-1).astype(np.int64)

    def busy(self) -> bool:
        """Return whether a tile is busy now."""
        return bool(self.mesh.register("core.watch_busy").any())

    def feed(self, words: Rows) -> None:
        """Let words be sent to each row, from now on."""
        self._feeds += 1
        if self._feeds < self._resumed_feeds:
            return  # all of them had been sent
        if self._feeds > self._resumed_feeds:
            self._sent = [0] * self.mesh.rows
        self.mesh.feed([row[at:] for row, at in zip(words, self._sent, strict=True)])

    def send(self, words: Rows, limit: int = 10_000_000) -> None:
        """Send words to each row, and return when they are in the mesh."""
        self.feed(words)
        self.finish_sending(limit)

    def launch(self, load: Rows, start: Rows) -> None:
        """Load the mesh, start it, and return when a tile is busy."""
        self.send(load)
        self.settle()
        self.feed(start)
        self.run_until_busy()

    @_operation
    def finish_sending(self, limit: int) -> None:
        """Run until all is sent."""
        self._run_for(limit, until="sent")

    @_operation
    def settle(self) -> None:
        """Let what was sent arrive."""
        self._run_for(SETTLE + self.mesh.columns)

    @_operation
    def run_until_busy(self) -> None:
        """Run until a tile is busy.

        Raises
        ------
        HangError
            If none is after the time in which words arrive.
        """
        self._run_for(SETTLE + self.mesh.columns, until="any")
        if not self.busy():
            raise self.hang("no task has started")

    @_operation
    def run_until_idle(self, limit: int) -> None:
        """Run until no tile is busy.

        Raises
        ------
        HangError
            If no tile has issued an instruction or taken a step for :data:`PATIENCE` cycles, or
            the limit has passed.
        """
        if self._resumed is None:
            self._patience = None
        patience = self._patient()
        end = self._begun(self.mesh.cycle + limit)
        self._state = lambda: end
        while True:
            self._run(patience.left(), until="none")
            if not self.busy():
                return
            patience.check()
            if self.mesh.cycle >= end:
                raise self.hang(f"it has not ended after {limit} cycles")
            self._keep()

    @_operation
    def run_until_token(self, index: int, since: int, limit: int) -> list[int]:
        """Run until a word leaves row 0, and return its cycle and itself.

        Raises
        ------
        HangError
            As of :meth:`run_until_idle`; the limit is from the cycle ``since`` on.
        """
        patience = self._patient()
        while True:
            if self.mesh.cycle >= since + limit:
                raise self.hang(f"token {index} has not come within {limit} cycles")
            self._run(min(patience.left(), since + limit - self.mesh.cycle), words=1)
            self._collect()
            for word in self._came:
                if word.row == 0:
                    self._came = []
                    return [word.cycle, word.data]
            patience.check()
            self._keep()

    @_operation
    def run_until_written(self, waited: list[int], written: list[int], limit: int) -> list[Any]:
        """Run until each tile has written to its SRAM as often as it is to.

        ``waited`` are the instructions of each tile that wait for the others, ``written`` the
        writes. Returns the cycle in which each tile issued the last of its ``waited``, the counters
        in the first and the last cycle of all, and the last one.

        Raises
        ------
        HangError
            If it takes more cycles than ``limit``.
        """
        now = [self.count(name) for name in ("instructions", "sram_write")]
        first = [(n + more).tolist() for n, more in zip(now, (waited, written), strict=True)]
        arrays = [*first, [0] * len(waited), [more != 0 for more in written]]
        state: list[Any] = [None, self.mesh.cycle + limit, arrays]
        before, end, arrays = self._begun(state)
        began, goals, starts, writing = map(np.array, arrays)
        self._state = lambda: [before, end, [a.tolist() for a in (began, goals, starts, writing)]]
        while self.mesh.cycle < end:
            self._run(1)
            # The last of the instructions that wait has issued: in this cycle the first move does.
            starting = (starts == 0) & (self.count("instructions") == began)
            if starting.any():
                starts[starting] = self.mesh.cycle
                before = before or self._counters()
            writing &= self.count("sram_write") != goals
            if starts.all() and not writing.any():
                return [starts.tolist(), before, self._counters(), self.mesh.cycle]
            self._keep()
        place = divmod(int(np.argmax(writing if writing.any() else starts == 0)), self.mesh.columns)
        raise self.hang(f"tile {place} has not ended its collective after {limit} cycles")

    def hang(self, why: str) -> HangError:
        """Return the error of a mesh that hangs, in the words of the watchdog."""
        from diptych_sim.host.watchdog import Watchdog  # needs cocotb, which takes long to import

        tiles = lane_tiles(self.mesh)
        watchdog = Watchdog(None, tiles, lines=self._lines, color_names=self._colors)
        return HangError(watchdog.message(why))

    def _patient(self) -> _Patience:
        if self._patience is None:
            self._patience = _Patience(self)
        return self._patience

    # --- words that leave the mesh ---

    def _collect(self) -> None:
        self._came += self.mesh.words()
        self.mesh.forget()

    @_operation
    def forget(self) -> None:
        """Forget the words that have left the mesh so far."""
        self._collect()
        self._came = []

    @_operation
    def read(self, words: int) -> list[list[int]]:
        """Return the next words that leave each row to the west.

        Raises
        ------
        HangError
            If they stop coming.
        """
        while True:
            self._collect()
            out: list[list[int]] = [[] for _ in range(self.mesh.rows)]
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
                raise self.hang(f"results stopped after {done} of {words} words")


class _Patience:
    """Looks at the progress of all tiles every :data:`PATIENCE` cycles, from now on."""

    def __init__(self, host: LaneHost) -> None:
        self._host = host
        self._next = host.mesh.cycle + PATIENCE
        self._before = self._progress()

    def _progress(self) -> np.ndarray:
        return np.stack([self._host.count(name) for name in ("instructions", "computing")])

    def state(self) -> list[Any]:
        """Return what :meth:`restore` takes."""
        return [self._next, self._before.tolist()]

    def restore(self, state: list[Any]) -> None:
        """Go on where another was."""
        self._next, self._before = state[0], np.array(state[1], dtype=np.int64)

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
        now = self._progress()
        if np.array_equal(now, self._before) and self._host.busy():
            raise self._host.hang(f"no tile made progress in {PATIENCE} cycles")
        self._before = now
        self._next += PATIENCE
