# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies a matrix by a vector on the simulated mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.mesh_kernels.gemv import compile_gemv
from diptych_sim.engine.lanes.checkpoint import Checkpoint

from .backend import MeshBackend
from .kernel import KernelRun, run_kernel

__all__ = ["Gemv", "gemv"]


@dataclass(frozen=True, kw_only=True)
class Gemv:
    """A product, and the kernel that computed it."""

    matches_golden: bool
    """Whether every element of y, read from every row, equals NumPy's."""
    sram_bytes: int
    kernel: KernelRun


def gemv(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    *,
    mesh: tuple[int, int],
    sram_bytes: int | None = None,
    backend: MeshBackend | None = None,
    checkpoint: Checkpoint | None = None,
) -> Gemv:
    """Compute ``w @ x`` (int8 [N, K], int8 [K]) in int32.

    Raises
    ------
    KernelError
        If it does not fit into the tiles.
    BuildError, CheckpointError, HangError, SimulationError, ToolError
        As of :meth:`.MeshBackend.run`.
    """
    compiled = compile_gemv(x, w, rows=mesh[0], columns=mesh[1], sram_bytes=sram_bytes)
    done = run_kernel(
        compiled.kernel,
        useful_macs=w.size,
        backend=backend,
        checkpoint=checkpoint,
    )
    expected = np.zeros(mesh[0] * compiled.outputs, np.int64)
    expected[: len(w)] = w.astype(np.int64) @ x.astype(np.int64)
    got = np.array(done.measured.readbacks[0], np.int64).reshape(-1)
    return Gemv(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        sram_bytes=compiled.kernel.sram_bytes,
        kernel=done,
    )
