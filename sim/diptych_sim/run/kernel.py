# SPDX-License-Identifier: BSD-2-Clause
"""Runs a kernel on the simulated mesh, and says what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from diptych.mesh.panel import DecodePanel
from diptych_sim.account.tiles import TILE_MACS, add_tiles, tile_changes
from diptych_sim.compiler.mesh_kernels.kernel import MeshKernel
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.run import lanes_mesh as lane_runs
from diptych_sim.run.verilator_mesh import run_job

__all__ = ["KernelRun", "run_kernel"]


@dataclass(frozen=True, kw_only=True)
class KernelRun:
    """What a kernel gave, and what it cost."""

    results: list[list[list[int]]]
    """Words by turn and row."""
    accounts: dict[str, Any]
    run: Run


def run_kernel(
    kernel: MeshKernel,
    *,
    useful_macs: int,
    waves: WavePlan | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> KernelRun:
    """Load a kernel through the fabric, run it, and read its results through the fabric.

    Cycles run from the first in which a tile is busy to the first in which none is: operands and
    results lie in the tiles. ``useful_macs`` are those of the product, without padding; the bound
    is their number by the multipliers. Both engines give the same. Verilator records waves, and
    then runs all but the mesh for lanes.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles.
    BuildError, SimulationError, ToolError
        If a step fails, or the mesh hangs.
    """
    bound = -(-useful_macs // (kernel.rows * kernel.columns * TILE_MACS))
    limit = 100_000 + 50 * bound
    if engine == "lanes" and waves is None:
        end, results, run = lane_runs.run_kernel(kernel, limit, checkpoint, progress)
        accounts = _account(end, kernel, useful_macs, bound)
        return KernelRun(results=results, accounts=accounts, run=run)
    sizes = {"colors": kernel.colors, "sram_bytes": kernel.sram_bytes, "positions": 1}
    apart = engine == "lanes"
    events, run = run_job(
        partial(DecodePanel, kernel.rows, kernel.columns, **sizes, apart=apart),
        "kernel",
        {
            "mesh": [kernel.rows, kernel.columns],
            "load": kernel.load,
            "start": kernel.start,
            "readbacks": [
                {"packets": turn.packets, "words": turn.words} for turn in kernel.readbacks
            ],
            "lines": kernel.program.lines,
            "colors": kernel.color_names,
            "limit": limit,
        },
        lanes=sizes if apart else None,
        waves=waves,
        seed=seed,
        progress=progress,
    )
    end = next(event for event in events if event["kind"] == "kernel")
    return KernelRun(
        results=[event["words"] for event in events if event["kind"] == "results"],
        accounts=_account(end, kernel, useful_macs, bound),
        run=run,
    )


def _account(end: dict[str, Any], kernel: MeshKernel, macs: int, bound: int) -> dict[str, Any]:
    cycles = end["cycles"]
    total = add_tiles(tile_changes(end["before"], end["after"], cycles))
    return {
        "cycles": cycles,
        "bound_cycles": bound,
        **total,
        "macs": macs,
        "mac_utilization": macs / (cycles * kernel.rows * kernel.columns * TILE_MACS),
        "macs_with_padding": total["macs"],
    }
