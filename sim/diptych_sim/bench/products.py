# SPDX-License-Identifier: BSD-2-Clause
"""Products of random matrices that the comparisons run."""

from __future__ import annotations

import click
import numpy as np

from diptych.config import MachineConfig
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.array_gemm import ArrayGemm, gemm

__all__ = ["Shape", "name_of", "product"]

Shape = tuple[int, int, int]
"""M, K, N."""


def name_of(shape: Shape) -> str:
    """Return a shape as MxKxN."""
    return "x".join(map(str, shape))


def product(
    shape: Shape,
    array: tuple[int, int],
    progress: ProgressLine,
    *,
    bias: bool = False,
    hbm_bytes_per_cycle: int = 64,
    engine: Engine = DEFAULT_ENGINE,
) -> ArrayGemm:
    """Return a product of random int8 matrices, from HBM to HBM.

    Raises
    ------
    ClickException
        If its result is not NumPy's.
    """
    m, k, n = shape
    progress(f"{m}x{k}x{n} in RTL")
    rng = np.random.default_rng(m + k + n)
    x = rng.integers(-128, 128, (m, k)).astype(np.int8)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    biases = rng.integers(-(2**31), 2**31, n).astype(np.int32) if bias else None
    machine = MachineConfig(array=array, hbm_bytes_per_cycle=hbm_bytes_per_cycle)
    done = gemm(x, w, biases, machine=machine, progress=progress, engine=engine)
    if not done.matches_golden:
        raise click.ClickException(f"Product {m}x{k}x{n} differs from NumPy's")
    return done
