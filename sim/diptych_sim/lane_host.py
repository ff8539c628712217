# SPDX-License-Identifier: BSD-2-Clause
"""Plays the host of a mesh that runs on lanes, as the testbenches do of one in Verilator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diptych.mesh.tile import CORE_COUNTERS, ROUTER_COUNTERS
from diptych_sim.compiler.collectives import CompiledCollective
from diptych_sim.compiler.decode_program import SEQUENCE_SHIFT
from diptych_sim.compiler.mesh_kernel import MeshKernel
from diptych_sim.engine.build import Progress
from diptych_sim.engine.errors import HangError
from diptych_sim.engine.lanes.checkpoint import Checkpoint, Keeper
from diptych_sim.engine.lanes.handles import lane_tiles
from diptych_sim.engine.lanes.machines import open_mesh
from diptych_sim.engine.lanes.mesh import LaneMesh, Word
from diptych_sim.engine.processes import threads
from diptych_sim.engine.simulate import Run, default_seed

__all__ = ["LaneHost", "run_collective", "run_decode", "run_kernel"]

PATIENCE = 2000
"""Cycles without progress after which a mesh hangs."""
SETTLE = 100
"""Cycles after which what was sent to a tile has arrived, besides a cycle for each column."""


class LaneHost:
    """A mesh on lanes, reset, and what a host does with it.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh; it is reset.
    lines : list of str
        Listing of the program, for the watchdog.
    colors : dict of int to str
        Names of colors, for it.
    """

    def __init__(self, mesh: LaneMesh, *, lines: list[str], colors: dict[int, str]) -> None:
        self.mesh = mesh
        self.threads = threads()
        self.started = time.perf_counter()
        self._lines, self._colors = lines, colors
        mesh.reset()

    def finished(self) -> Run:
        """Return how long the mesh has run."""
        seconds = time.perf_counter() - self.started
        return Run(folder=Path(), tests=1, seed=default_seed(), seconds=seconds, cached=True)

    def counters(self) -> list[dict[str, int]]:
        """Return the counters of every tile, row by row."""
        names = [("core", name) for name in CORE_COUNTERS]
        names += [("router", name) for name in ROUTER_COUNTERS]
        values = {
            name: self.mesh.register(f"{part}.count_{name}").reshape(-1).tolist()
            for part, name in names
        }
        return [dict(zip(values, tile, strict=True)) for tile in zip(*values.values(), strict=True)]

    def count(self, name: str) -> np.ndarray:
        """Return a counter of the core of every tile, row by row."""
        return self.mesh.register(f"core.count_{name}").reshape(-1).astype(np.int64)

    def busy(self) -> bool:
        """Return whether a tile is busy."""
        return bool(self.mesh.register("core.watch_busy").any())

    def send(self, words: list[list[int]], limit: int = 10_000_000) -> None:
        """Send words to each row, and return when they are in the mesh."""
        self.mesh.feed(words)
        self.mesh.run(limit, until="sent", threads=self.threads)

    def settle(self) -> None:
        """Let what was sent arrive."""
        self.mesh.run(SETTLE + self.mesh.columns, threads=self.threads)

    def run_until_busy(self) -> None:
        """Run until a tile is busy.

        Raises
        ------
        HangError
            If none is after the time in which words arrive.
        """
        self.mesh.run(SETTLE + self.mesh.columns, until="any", threads=self.threads)
        if not self.busy():
            raise self.hang("no task has started")

    def run_until_idle(self, limit: int) -> None:
        """Run until no tile is busy.

        Raises
        ------
        HangError
            If no tile has issued an instruction or taken a step for :data:`PATIENCE` cycles, or
            the limit has passed.
        """
        patience = Patience(self)
        end = self.mesh.cycle + limit
        while True:
            self.mesh.run(patience.left(), until="none", threads=self.threads)
            if not self.busy():
                return
            patience.check()
            if self.mesh.cycle >= end:
                raise self.hang(f"it has not ended after {limit} cycles")

    def run_until_token(
        self, index: int, since: int, limit: int, patience: Patience, keep: Callable[[], None]
    ) -> Word:
        """Run until a word leaves row 0, and return it.

        ``keep`` is called now and then, when no word has come.

        Raises
        ------
        HangError
            As of :meth:`run_until_idle`; the limit is from the cycle ``since`` on.
        """
        while True:
            if self.mesh.cycle >= since + limit:
                raise self.hang(f"token {index} has not come within {limit} cycles")
            cycles = min(patience.left(), since + limit - self.mesh.cycle)
            self.mesh.run(cycles, words=1, threads=self.threads)
            for word in self.mesh.words():
                if word.row == 0:
                    self.mesh.forget()
                    return word
            patience.check()
            keep()

    def hang(self, why: str) -> HangError:
        """Return the error of a mesh that hangs, in the words of the watchdog."""
        from diptych_tb.mesh.watchdog import Watchdog  # needs cocotb, which takes long to import

        tiles = lane_tiles(self.mesh)
        watchdog = Watchdog(None, tiles, lines=self._lines, color_names=self._colors)
        return HangError(watchdog.message(why))

    def read(self, words: int) -> list[list[int]]:
        """Return the next words that leave each row to the west.

        Raises
        ------
        HangError
            If they stop coming.
        """
        while True:
            out: list[list[int]] = [[] for _ in range(self.mesh.rows)]
            for word in self.mesh.words():
                out[word.row].append(word.data)
            if all(len(row) >= words for row in out):
                self.mesh.forget()
                return [row[:words] for row in out]
            seen = sum(map(len, out))
            self.mesh.run(PATIENCE, threads=self.threads)
            if len(self.mesh.words()) == seen:
                done = min(map(len, out))
                raise self.hang(f"results stopped after {done} of {words} words")


class Patience:
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


def run_kernel(
    kernel: MeshKernel, limit: int, progress: Progress | None = None
) -> tuple[dict[str, Any], list[list[list[int]]], Run]:
    """Run a kernel on lanes, as :mod:`diptych_tb.mesh.kernel` does in Verilator.

    Returns its cycles and counters, the words of each readback, and how long it took.
    """
    mesh = open_mesh(
        kernel.rows,
        kernel.columns,
        colors=kernel.colors,
        sram_bytes=kernel.sram_bytes,
        positions=1,
        progress=progress,
    )
    with mesh:
        host = LaneHost(mesh, lines=kernel.program.lines, colors=kernel.color_names)
        host.send(kernel.load)
        host.settle()
        mesh.feed(kernel.start)
        host.run_until_busy()
        start, before = mesh.cycle, host.counters()
        host.run_until_idle(limit)
        end = {"cycles": mesh.cycle - start, "before": before, "after": host.counters()}
        mesh.run(limit, until="sent")
        mesh.forget()
        results = []
        for turn in kernel.readbacks:
            host.send(turn.packets)
            results.append(host.read(turn.words))
        return end, results, host.finished()


def run_collective(
    compiled: CompiledCollective,
    mesh: tuple[int, int],
    *,
    results: int,
    limit: int,
    hop_cycles: int = 1,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[list[int]], Run]:
    """Run a collective on lanes, as :mod:`diptych_tb.mesh.collective` does in Verilator.

    Returns the cycles in which each tile began and in which the last wrote, with the counters at the
    first and the last of them; the words of each row, of which there are ``results``; and how long
    it took.
    """
    parameters = {"colors": compiled.colors, "hop_cycles": hop_cycles}
    with open_mesh(*mesh, progress=progress, **parameters) as lanes:
        host = LaneHost(lanes, lines=compiled.program.lines, colors={})
        host.send(compiled.load)
        host.settle()
        lanes.feed(compiled.start)
        found = _until_written(host, compiled, limit)
        lanes.run(limit, until="sent")
        lanes.forget()
        host.send(compiled.gather)
        return found, host.read(results), host.finished()


def _until_written(host: LaneHost, compiled: CompiledCollective, limit: int) -> dict[str, Any]:
    began = host.count("instructions") + compiled.waited
    goals = host.count("sram_write") + compiled.written
    starts = np.zeros(len(goals), dtype=np.int64)
    writing = np.array(compiled.written) != 0
    before: list[dict[str, int]] | None = None
    for _ in range(limit):
        host.mesh.run(1, threads=host.threads)
        # The last of the instructions that wait has issued: in this cycle the first move does.
        starting = (starts == 0) & (host.count("instructions") == began)
        if starting.any():
            starts[starting] = host.mesh.cycle
            before = before or host.counters()
        writing &= host.count("sram_write") != goals
        if starts.all() and not writing.any():
            return {
                "starts": starts.tolist(),
                "end": host.mesh.cycle,
                "before": before,
                "after": host.counters(),
            }
    place = divmod(int(np.argmax(writing if writing.any() else starts == 0)), host.mesh.columns)
    raise host.hang(f"tile {place} has not ended its collective after {limit} cycles")


def run_decode(
    load: list[list[int]],
    first: list[int],
    tokens: int,
    limit: int,
    *,
    mesh: tuple[int, int],
    sizes: dict[str, int],
    lines: list[str],
    colors: dict[int, str],
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None],
) -> Run:
    """Decode on lanes, as :mod:`diptych_tb.mesh.decode` does in Verilator.

    Reports the same events, each with the cycle in which a testbench would see it. With a checkpoint
    the run is kept, or goes on where it was, and then reports again what it had reported.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not of this run.
    HangError
        If a token does not come.
    SimulationError
        If a checkpoint cannot be written.
    """
    with open_mesh(*mesh, progress=progress, **sizes) as lanes:
        host = LaneHost(lanes, lines=lines, colors=colors)
        told: list[dict[str, Any]] = []

        def tell(event: dict[str, Any]) -> None:
            told.append(dict(event))
            on_event(event)

        def out(index: int, sequence: int, token: int, cycle: int) -> None:
            event = {"kind": "token", "index": index, "sequence": sequence, "token": token}
            tell(event | {"cycle": cycle})
            if index in (len(first) - 1, len(first) + tokens - 1):
                counters = {"kind": "counters", "index": index, "cycle": cycle}
                tell(counters | {"tiles": host.counters()})

        keeper = None
        if checkpoint is not None:
            keeper = Keeper(checkpoint, lanes, load, [str(first), str(tokens)])
        patience = Patience(host)
        if keeper is not None and checkpoint is not None and checkpoint.resume:
            before, state = keeper.resume()
            patience.restore(state)
            for event in before:
                tell(event)
        else:
            host.send(load)
            patience = Patience(host)
            tell({"kind": "started", "cycle": lanes.cycle})
            for sequence, token in enumerate(first):
                out(sequence, sequence, token, lanes.cycle)

        def keep() -> None:
            if keeper is not None:
                keeper.keep(lambda: [told, patience.state()])

        came = [event for event in told if event["kind"] == "token"]
        since = came[-1]["cycle"]
        for index in range(len(came), len(first) + tokens):
            word = host.run_until_token(index, since, limit, patience, keep)
            since = word.cycle
            out(index, *divmod(word.data, 1 << SEQUENCE_SHIFT), word.cycle)
        return host.finished()
