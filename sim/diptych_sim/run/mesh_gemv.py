# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies a matrix by a vector on the simulated mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.mesh_kernels.gemv import compile_gemv
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.run.kernel import run_kernel

__all__ = ["Gemv", "gemv"]


@dataclass(frozen=True, kw_only=True)
class Gemv:
    """What a product gave, and what it cost."""

    matches_golden: bool
    """Whether every element of y, read from every row, equals NumPy's."""
    accounts: dict[str, Any]
    sram_bytes: int
    run: Run


def gemv(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    *,
    mesh: tuple[int, int],
    sram_bytes: int | None = None,
    waves: WavePlan | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Gemv:
    """Compute ``w @ x`` (int8 [N, K], int8 [K]) in int32.

    Raises
    ------
    KernelError
        If it does not fit into the tiles.
    AccountError, BuildError, SimulationError, ToolError
        As of :func:`.run_kernel`.
    """
    compiled = compile_gemv(x, w, rows=mesh[0], columns=mesh[1], sram_bytes=sram_bytes)
    done = run_kernel(
        compiled.kernel,
        useful_macs=w.size,
        waves=waves,
        seed=seed,
        engine=engine,
        checkpoint=checkpoint,
        progress=progress,
    )
    expected = np.zeros(mesh[0] * compiled.outputs, np.int64)
    expected[: len(w)] = w.astype(np.int64) @ x.astype(np.int64)
    got = np.array(done.results[0], np.int64).reshape(-1)
    return Gemv(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        accounts=done.accounts,
        sram_bytes=compiled.kernel.sram_bytes,
        run=done.run,
    )
