# SPDX-License-Identifier: BSD-2-Clause
"""Plays the host of a mesh that runs on lanes, as the testbenches do of one in Verilator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.mesh.tile import CORE_COUNTERS, ROUTER_COUNTERS
from diptych_sim.compiler.decode_program import SEQUENCE_SHIFT
from diptych_sim.compiler.mesh_kernel import MeshKernel
from diptych_sim.engine.build import Progress
from diptych_sim.engine.errors import HangError, SimulationError
from diptych_sim.engine.lanes.machines import open_mesh
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.simulate import Run

__all__ = ["LaneHost", "run_decode", "run_kernel"]

PATIENCE = 2000
"""Cycles without progress after which a mesh hangs."""
SETTLE = 100
"""Cycles after which what was sent to a tile has arrived, besides a cycle for each column."""


@dataclass
class _Handle:
    """A register of a tile, with a ``value`` as a simulator's handle has."""

    registers: dict[str, np.ndarray]
    place: tuple[int, int]
    name: str

    @property
    def value(self) -> int:
        return int(self.registers[self.name][self.place])


@dataclass
class _Core:
    registers: dict[str, np.ndarray]
    place: tuple[int, int]

    def __getattr__(self, name: str) -> _Handle:
        return _Handle(self.registers, self.place, f"core.{name}")


@dataclass
class _Tile:
    core: _Core


class LaneHost:
    """A mesh on lanes, reset, and what a host does with it.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh; it is reset.
    """

    def __init__(self, mesh: LaneMesh, *, threads: int = 1) -> None:
        self.mesh = mesh
        self.threads = threads
        self.started = time.perf_counter()
        mesh.reset()

    def finished(self) -> Run:
        """Return how long the mesh has run."""
        return Run(
            folder=Path(), tests=1, seed=0, seconds=time.perf_counter() - self.started, cached=True
        )

    def counters(self) -> list[dict[str, int]]:
        """Return the counters of every tile, row by row."""
        names = [("core", name) for name in CORE_COUNTERS]
        names += [("router", name) for name in ROUTER_COUNTERS]
        values = {
            name: self.mesh.register(f"{part}.count_{name}").reshape(-1).tolist()
            for part, name in names
        }
        return [dict(zip(values, tile, strict=True)) for tile in zip(*values.values(), strict=True)]

    def send(self, words: list[list[int]], limit: int = 10_000_000) -> None:
        """Send words to each row, and return when they are in the mesh."""
        self.mesh.feed(words)
        self.mesh.run(limit, until="sent", threads=self.threads)

    def settle(self) -> None:
        """Let what was sent arrive."""
        self.mesh.run(SETTLE + self.mesh.columns, threads=self.threads)

    def run_until_idle(self, limit: int, lines: list[str], colors: dict[int, str]) -> None:
        """Run until no tile is busy.

        Raises
        ------
        HangError
            If no tile has issued an instruction or taken a step for :data:`PATIENCE` cycles, or
            the limit has passed.
        """
        before = None
        end = self.mesh.cycle + limit
        while True:
            self.mesh.run(PATIENCE, until="none", threads=self.threads)
            if not self.mesh.register("core.watch_busy").any():
                return
            now = [
                self.mesh.register(f"core.count_{name}").copy()
                for name in ("instructions", "computing")
            ]
            if before is not None and all(map(np.array_equal, now, before)):
                raise self.hang(f"no tile made progress in {PATIENCE} cycles", lines, colors)
            if self.mesh.cycle >= end:
                raise self.hang(f"it has not ended after {limit} cycles", lines, colors)
            before = now

    def hang(self, why: str, lines: list[str], colors: dict[int, str]) -> HangError:
        """Return the error of a mesh that hangs, in the words of the watchdog."""
        from diptych_tb.mesh.watchdog import Watchdog  # needs cocotb, which takes long to import

        rows, columns = self.mesh.rows, self.mesh.columns
        registers = self.mesh.registers()
        places = [(r, c) for r in range(rows) for c in range(columns)]
        tiles = {place: _Tile(_Core(registers, place)) for place in places}
        watchdog = Watchdog(None, tiles, lines=lines, color_names=colors)
        return HangError(watchdog.message(why))

    def read(self, words: int) -> list[list[int]]:
        """Return the next words that leave each row to the west.

        Raises
        ------
        SimulationError
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
                raise SimulationError(f"mesh hangs, results stopped after {done} of {words} words")


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
        progress=progress,
    )
    with mesh:
        host = LaneHost(mesh)
        host.send(kernel.load)
        host.settle()
        mesh.feed(kernel.start)
        mesh.run(SETTLE + mesh.columns, until="any")
        if not mesh.register("core.watch_busy").any():
            raise host.hang("no task has started", kernel.program.lines, kernel.color_names)
        start, before = mesh.cycle, host.counters()
        host.run_until_idle(limit, kernel.program.lines, kernel.color_names)
        end = {"cycles": mesh.cycle - start, "before": before, "after": host.counters()}
        mesh.run(limit, until="sent")
        mesh.forget()
        results = []
        for turn in kernel.readbacks:
            host.send(turn.packets)
            results.append(host.read(turn.words))
        return end, results, host.finished()


def run_decode(
    load: list[list[int]],
    first: list[int],
    tokens: int,
    limit: int,
    *,
    mesh: tuple[int, int],
    sram_bytes: int,
    program_depth: int = 256,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None],
) -> Run:
    """Decode on lanes, as :mod:`diptych_tb.mesh.decode` does in Verilator.

    Reports the same events, each with the cycle in which a testbench would see it.
    """
    sizes = {"sram_bytes": sram_bytes, "program_depth": program_depth}
    with open_mesh(*mesh, progress=progress, **sizes) as lanes:
        host = LaneHost(lanes)
        host.send(load)
        started = lanes.cycle
        on_event({"kind": "started", "cycle": started})

        def out(index: int, sequence: int, token: int, cycle: int) -> None:
            event = {"kind": "token", "index": index, "sequence": sequence, "token": token}
            on_event(event | {"cycle": cycle})
            if index in (len(first) - 1, len(first) + tokens - 1):
                counters = {"kind": "counters", "index": index, "cycle": cycle}
                on_event(counters | {"tiles": host.counters()})

        for sequence, token in enumerate(first):
            out(sequence, sequence, token, started)
        for index in range(tokens):
            lanes.run(limit, words=1)
            words = lanes.words()
            if len(words) <= index:
                raise SimulationError(f"token {index} must come within {limit} cycles")
            sequence, token = divmod(words[index].data, 1 << SEQUENCE_SHIFT)
            out(len(first) + index, sequence, token, words[index].cycle)
        return host.finished()
