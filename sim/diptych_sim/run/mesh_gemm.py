# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.mesh_kernels.gemm import compile_mesh_gemm
from diptych_sim.engine.lanes.checkpoint import Checkpoint

from .backend import MeshBackend
from .kernel import KernelRun, run_kernel

__all__ = ["MeshGemm", "mesh_gemm"]


@dataclass(frozen=True, kw_only=True)
class MeshGemm:
    """A product, and the kernel that computed it."""

    matches_golden: bool
    """Whether every element, read from its tile, equals NumPy's."""
    block: tuple[int, int, int]
    sram_bytes: int
    kernel: KernelRun


def mesh_gemm(
    x: NDArray[np.int8] | NDArray[np.int16],
    w: NDArray[np.int8],
    *,
    mesh: tuple[int, int],
    algorithm: str = "shift",
    sram_bytes: int | None = None,
    backend: MeshBackend | None = None,
    checkpoint: Checkpoint | None = None,
) -> MeshGemm:
    """Compute ``x @ w`` (int8, or int16 of 12 bits, [M, K], int8 [K, N]) in int32.

    Raises
    ------
    KernelError
        If it does not fit into the tiles, or the mesh does not suit the algorithm.
    BuildError, CheckpointError, HangError, SimulationError, ToolError
        As of :meth:`.MeshBackend.run`.
    """
    compiled = compile_mesh_gemm(x, w, mesh=mesh, algorithm=algorithm, sram_bytes=sram_bytes)
    (m, k), n = x.shape, w.shape[1]
    done = run_kernel(
        compiled.kernel,
        useful_macs=m * k * n,
        backend=backend,
        checkpoint=checkpoint,
    )
    rows, columns = mesh
    block_m, _, block_n = compiled.block
    # Turns are columns of the mesh; in each, every row sends a block.
    blocks = np.array(done.measured.readbacks, np.int64).reshape(columns, rows, block_m, block_n)
    got = blocks.transpose(1, 2, 0, 3).reshape(rows * block_m, columns * block_n)
    expected = np.zeros_like(got)
    expected[:m, :n] = x.astype(np.int64) @ w.astype(np.int64)
    return MeshGemm(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        block=compiled.block,
        sram_bytes=compiled.kernel.sram_bytes,
        kernel=done,
    )
