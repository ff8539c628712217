# SPDX-License-Identifier: BSD-2-Clause
"""A mesh as large as a wafer: built, loaded, and run through three operations on lanes."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from diptych.mesh.sram import BANKS
from diptych_sim.compiler.collectives.compile import Collective
from diptych_sim.compiler.mesh_kernels.wafer import (
    INPUTS,
    OUTPUTS,
    PROGRAM_DEPTH,
    SRAM_BYTES,
    WORDS,
    At,
    Task,
    Wafer,
    compile_wafer,
)
from diptych_sim.cost.collectives import bound_cycles, published_cycles
from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.settings import wafer_size

__all__ = ["Operation", "measure", "run_wafer"]

DRAIN = 8
"""Cycles after which a tile that has ended its task has written all."""


@dataclass(frozen=True)
class Operation:
    """Cycles of an operation, from the first task that starts to the last that ends.

    ``after`` counts from when all have started: the start goes from column to column, a cycle each.
    """

    task: Task
    cycles: int
    after: int
    matches: bool


def words_at(mesh: LaneMesh, address: int, count: int) -> NDArray[np.uint32]:
    """Return 32-bit words of every tile's SRAM that is here, [tiles, count]; 8-byte aligned."""
    layout = mesh.tile.layout
    banks = {
        memory.name: layout.memories[index][0]
        for index, memory in mesh.tile.interface.memories.items()
        if memory.name.startswith("core.sram.bank_")
    }
    out = []
    for word in range(address // 8, address // 8 + -(-count // 2)):
        place = banks[f"core.sram.bank_{word % BANKS}"]
        out.append(mesh.element(place, word // BANKS).view(np.uint32).reshape(-1, 2))
    return np.concatenate(out, axis=1)[:, :count]


def _matches(mesh: LaneMesh, wafer: Wafer, task: Task) -> bool:
    """Return whether every tile has what it must have."""
    if task is Task.BROADCAST:
        got = words_at(mesh, At.COPY, WORDS)
        root = mesh.part.row == mesh.part.column == 0
        return bool((got[int(root) :] == wafer.copy).all())
    if task is Task.ALL_REDUCE:
        return bool((words_at(mesh, At.SUM, WORDS) == wafer.total).all())
    rows = slice(mesh.part.row, mesh.part.row + mesh.part.rows)
    expected = np.repeat(wafer.y[rows].view(np.uint32), mesh.part.columns, axis=0)
    return bool((words_at(mesh, At.Y, OUTPUTS) == expected).all())


def run_wafer(mesh: LaneMesh, wafer: Wafer, threads: int = 1) -> Iterator[Operation]:
    """Load a mesh and run it through its tasks.

    Raises
    ------
    SimulationError
        If an assertion of the hardware fails.
    """
    span = wafer.rows + wafer.columns
    mesh.reset()
    mesh.feed(wafer.load)
    mesh.run(10_000_000, until="sent", threads=threads)
    mesh.run(wafer.columns + DRAIN, threads=threads)
    for task in Task:
        mesh.feed(wafer.start(task))
        mesh.run(DRAIN * span, until="any", threads=threads)
        start = mesh.cycle
        mesh.run(DRAIN * span, until="none", threads=threads)
        end = mesh.cycle
        mesh.run(DRAIN, threads=threads)
        cycles = end - start
        yield Operation(task, cycles, cycles - wafer.columns + 1, _matches(mesh, wafer, task))


def measure(console: Console, _runs: int) -> None:
    """Print the cycles of each operation on the whole mesh beside bounds and published formulas."""
    rows, columns = map(int, wafer_size().split("x"))
    sizes = {"sram_bytes": SRAM_BYTES, "program_depth": PROGRAM_DEPTH}
    clock = time.perf_counter()
    wafer = compile_wafer(rows, columns, 1)
    compiled, clock = time.perf_counter() - clock, time.perf_counter()
    with open_mesh(rows, columns, **sizes) as mesh:
        built, clock = time.perf_counter() - clock, time.perf_counter()
        table = Table("operation", "cycles", "from last start", "bound", "published", "all equal")
        for done in run_wafer(mesh, wafer, mesh.threads):
            bound, published = _beside(done.task, rows, columns)
            name = done.task.name.lower().replace("_", "-")
            if done.task is Task.PRODUCT:
                name = f"{rows * OUTPUTS}x{columns * INPUTS} by a vector"
            values = (done.cycles, done.after, bound, published)
            cells = [f"{value:,}" if value else "" for value in values]
            table.add_row(name, *cells, "yes" if done.matches else "NO")
            if not done.matches:
                raise AssertionError(f"{name} differs from NumPy")
        ran, cycles = time.perf_counter() - clock, mesh.cycle
        size = mesh.tile.layout.bytes / mesh.tile.layout.lanes
    console.print(table)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = rows * columns * cycles / ran / 1e6
    console.print(
        f"{rows}x{columns} tiles of {SRAM_BYTES} bytes of SRAM: compiled in {compiled:.0f} s, built in "
        f"{built:.0f} s, {cycles:,} cycles in {ran:.0f} s ({speed:.1f} M tile-cycles/s, "
        f"{mesh.threads} threads); {size:,.0f} bytes a tile, {memory:.1f} GiB at most"
    )


def _beside(task: Task, rows: int, columns: int) -> tuple[int, int | None]:
    """Return a bound and a published formula's cycles.

    A product has the bound of its dependent steps: the block's rows, there and back along half a
    row. The formulas are of broadcasts in the fabric and of two-phase reductions followed by one.
    """
    if task is Task.PRODUCT:
        return OUTPUTS * INPUTS // 8 + 2 * (columns // 2), None
    if task is Task.BROADCAST:
        collective = Collective(
            operation="broadcast", algorithm="fabric", rows=rows, columns=columns, words=WORDS
        )
    else:
        collective = Collective(
            operation="allreduce", algorithm="two-phase", rows=rows, columns=columns, words=WORDS
        )
    return bound_cycles(collective), published_cycles(collective)
