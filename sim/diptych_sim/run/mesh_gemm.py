# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.mesh_kernels.gemm import compile_mesh_gemm
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.run.kernel import run_kernel

__all__ = ["MeshGemm", "mesh_gemm"]


@dataclass(frozen=True, kw_only=True)
class MeshGemm:
    """What a product gave, and what it cost."""

    matches_golden: bool
    """Whether every element, read from its tile, equals NumPy's."""
    accounts: dict[str, Any]
    block: tuple[int, int, int]
    sram_bytes: int
    run: Run


def mesh_gemm(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    *,
    mesh: tuple[int, int],
    algorithm: str = "shift",
    sram_bytes: int | None = None,
    waves: WavePlan | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> MeshGemm:
    """Compute ``x @ w`` (int8 [M, K], int8 [K, N]) in int32.

    Raises
    ------
    KernelError
        If it does not fit into the tiles, or the mesh does not suit the algorithm.
    AccountError, BuildError, SimulationError, ToolError
        As of :func:`.run_kernel`.
    """
    compiled = compile_mesh_gemm(x, w, mesh=mesh, algorithm=algorithm, sram_bytes=sram_bytes)
    (m, k), n = x.shape, w.shape[1]
    done = run_kernel(
        compiled.kernel,
        useful_macs=m * k * n,
        waves=waves,
        seed=seed,
        engine=engine,
        checkpoint=checkpoint,
        progress=progress,
    )
    rows, columns = mesh
    block_m, _, block_n = compiled.block
    # Turns are columns of the mesh; in each, every row sends a block.
    blocks = np.array(done.results, np.int64).reshape(columns, rows, block_m, block_n)
    got = blocks.transpose(1, 2, 0, 3).reshape(rows * block_m, columns * block_n)
    expected = np.zeros_like(got)
    expected[:m, :n] = x.astype(np.int64) @ w.astype(np.int64)
    return MeshGemm(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        accounts=done.accounts,
        block=compiled.block,
        sram_bytes=compiled.kernel.sram_bytes,
        run=done.run,
    )
