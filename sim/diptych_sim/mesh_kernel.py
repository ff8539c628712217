# SPDX-License-Identifier: BSD-2-Clause
"""Runs a kernel on the simulated mesh, and says what it cost."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.mesh.core import CAUSES
from diptych.mesh.panel import DecodePanel
from diptych.mesh.router import DIRECTIONS
from diptych_sim import lane_host
from diptych_sim.account.accounts import AccountError, bytes_by_level
from diptych_sim.compiler.mesh_kernel import MeshKernel
from diptych_sim.engine.build import BuildOptions, Progress
from diptych_sim.engine.kind import Engine
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.tile_public import TILE_PUBLIC

__all__ = ["TILE_MACS", "KernelRun", "run_kernel"]

TILE_MACS = 8
WAVELET_BYTES = 4


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
    progress: Progress | None = None,
) -> KernelRun:
    """Load a kernel through the fabric, run it, and read its results through the fabric.

    Cycles run from the first in which a tile is busy to the first in which none is: operands and
    results lie in the tiles. ``useful_macs`` are those of the product, without padding; the bound
    is their number by the multipliers. Both engines give the same; only Verilator records waves.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles.
    BuildError, SimulationError, ToolError
        If a step fails, or the mesh hangs.
    """
    bound = -(-useful_macs // (kernel.rows * kernel.columns * TILE_MACS))
    limit = 100_000 + 50 * bound
    if engine == "lanes":
        end, results, run = lane_host.run_kernel(kernel, limit, progress)
        accounts = _account(end, kernel, useful_macs, bound)
        return KernelRun(results=results, accounts=accounts, run=run)
    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="diptych-") as name:
        job = Path(name) / "kernel.json"
        job.write_text(
            json.dumps(
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
                }
            )
        )
        run = simulate(
            DecodePanel(
                kernel.rows,
                kernel.columns,
                colors=kernel.colors,
                sram_bytes=kernel.sram_bytes,
                positions=1,
            ),
            name="decode_panel",
            test_module="diptych_tb.mesh.kernel",
            env={"DIPTYCH_KERNEL": job},
            options=BuildOptions(shared=("tile",)),
            public=TILE_PUBLIC,
            waves=waves,
            seed=seed,
            progress=progress,
            on_event=events.append,
        )
    end = next(event for event in events if event["kind"] == "kernel")
    return KernelRun(
        results=[event["words"] for event in events if event["kind"] == "results"],
        accounts=_account(end, kernel, useful_macs, bound),
        run=run,
    )


def _account(end: dict[str, Any], kernel: MeshKernel, macs: int, bound: int) -> dict[str, Any]:
    cycles = end["cycles"]
    changes = [
        {name: (after[name] - before[name]) % 2**32 for name in after}
        for before, after in zip(end["before"], end["after"], strict=True)
    ]
    for index, tile in enumerate(changes):
        counted = sum(tile[cause] for cause in CAUSES)
        if counted != cycles:
            raise AccountError(f"Causes of tile {index} must sum to {cycles} cycles, not {counted}")
    total: dict[str, int] = {name: sum(tile[name] for tile in changes) for name in changes[0]}
    tiles = kernel.rows * kernel.columns
    hops = WAVELET_BYTES * sum(total[way] for way in DIRECTIONS)
    return {
        "cycles": cycles,
        "bound_cycles": bound,
        "macs": macs,
        "mac_utilization": macs / (cycles * tiles * TILE_MACS),
        "cycles_by_cause": {cause: total[cause] for cause in CAUSES},
        "bytes": bytes_by_level(
            sram_read=total["sram_read"], sram_write=total["sram_write"], fabric_hops=hops
        ),
        "macs_with_padding": total["macs"],
    }
