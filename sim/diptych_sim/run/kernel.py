# SPDX-License-Identifier: BSD-2-Clause
"""Runs a kernel on the simulated mesh."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.config import TILE_MACS
from diptych_sim.compiler.tile.kernel import MeshKernel
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.simulate import Run
from diptych_sim.host.jobs import KernelJob, KernelResult

from .backend import MeshBackend, VerilatorMesh

__all__ = ["KernelRun", "kernel_job", "run_kernel"]


@dataclass(frozen=True, kw_only=True)
class KernelRun:
    """Results and counters of a kernel.

    Attributes
    ----------
    measured : KernelResult
        Cycles, counters, and words by turn and row.
    mesh : (int, int)
        Rows and columns.
    useful_macs, bound_cycles : int
        Products without padding, and how many cycles they take at least.
    run : Run
        How long it took.
    """

    measured: KernelResult
    mesh: tuple[int, int]
    useful_macs: int
    bound_cycles: int
    run: Run


def kernel_job(
    kernel: MeshKernel, *, limit: int, checkpoint: Checkpoint | None = None
) -> KernelJob:
    """Return the job that runs a kernel for at most ``limit`` cycles."""
    return KernelJob(
        mesh=(kernel.rows, kernel.columns),
        parameters={"colors": kernel.colors, "sram_bytes": kernel.sram_bytes},
        load=kernel.load,
        start=kernel.start,
        readbacks=kernel.readbacks,
        lines=kernel.program.lines,
        colors=kernel.color_names,
        limit=limit,
        checkpoint=checkpoint,
    )


def run_kernel(
    kernel: MeshKernel,
    *,
    useful_macs: int,
    backend: MeshBackend | None = None,
    checkpoint: Checkpoint | None = None,
) -> KernelRun:
    """Load a kernel through the fabric, run it, and read its results through the fabric.

    Cycles run from the first in which a tile is busy to the first in which none is: operands and
    results lie in the tiles. ``useful_macs`` are those of the product, without padding; the bound
    is their number by the multipliers.

    Raises
    ------
    BuildError, CheckpointError, HangError, SimulationError, ToolError
        As of :meth:`.MeshBackend.run`.
    """
    bound = -(-useful_macs // (kernel.rows * kernel.columns * TILE_MACS))
    job = kernel_job(kernel, limit=100_000 + 50 * bound, checkpoint=checkpoint)
    measured, run = (backend or VerilatorMesh()).run(job)
    return KernelRun(
        measured=measured, mesh=job.mesh, useful_macs=useful_macs, bound_cycles=bound, run=run
    )
