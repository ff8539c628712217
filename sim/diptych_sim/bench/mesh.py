# SPDX-License-Identifier: BSD-2-Clause
"""Products on the mesh, beside what is published of a wafer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from diptych_sim.account.mesh_kernels import account_kernel
from diptych_sim.compiler.mesh_kernels.gemm import ALGORITHMS
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.mesh_gemm import mesh_gemm
from diptych_sim.run.mesh_gemv import gemv

__all__ = ["measure"]

GEMV_SHARE = 0.048
"""Share of the SRAM's bandwidth of a 32K x 32K matrix-vector product on a WSE-2: 2.03 us.

Derived from WaferLLM (OSDI 2025), table 6. A weight is read once, so that the share of bandwidth
is that of multiplications at a weight byte for each.
"""
LAYER_SHARES = (0.032, 0.096)
"""Shares of peak of one decode layer on a WSE-2, LLaMA3-8B and 72B; derived from the same."""
GEMV = (
    (128, 16, (1, 1), 0.9),
    (64, 64, (1, 1), 0.9),
    (1024, 1024, (8, 8), 0.85),
    (512, 512, (8, 8), None),
    (128, 256, (8, 8), None),
)
"""K, N, mesh, and the share of peak that we ask for: of a tile by itself with 16 rows or more."""
SIDES = (3, 6, 9)
BLOCKS = (8, 16, 24)
GEMM_ASKED = {24: 0.5}
"""Share of peak that we ask for, by the side of a tile's block."""


def _int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def measure(console: Console, runs: int) -> None:
    """Print cycles and shares of peak; they do not depend on ``runs``, as cycles never differ."""
    del runs
    rng = np.random.default_rng(1)
    progress = ProgressLine()
    table = Table(box=None, pad_edge=False)
    for name in ("product", "block", "mesh", "algorithm"):
        table.add_column(name, no_wrap=True)
    for name in ("cycles", "bound", "MAC/\ncycle", "of peak", "asked"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(
        what: str,
        sides: tuple[int, int],
        how: str,
        asked: float | None,
        run: Callable[[], Any],
        block: str = "",
    ) -> None:
        mesh = f"{sides[0]}x{sides[1]}"
        progress(f"{what} on {mesh}")
        done = run()
        if not done.matches_golden:
            raise click.ClickException(f"{what} on {mesh}, {how}, differs from NumPy's")
        a = account_kernel(done.kernel)
        table.add_row(
            what,
            block,
            mesh,
            how,
            f"{a['cycles']:,}",
            f"{a['bound_cycles']:,}",
            f"{a['macs'] / (a['cycles'] * sides[0] * sides[1]):.2f}",
            f"{a['mac_utilization']:.1%}",
            f"{asked:.0%}" if asked else "",
        )

    for k, n, mesh, asked in GEMV:
        x, w = _int8(rng, k), _int8(rng, n, k)
        how = "local" if mesh == (1, 1) else "fabric"
        add(f"{n}x{k} vector", mesh, how, asked, partial(gemv, x, w, mesh=mesh))
    for side in SIDES:
        for block in BLOCKS:
            size, mesh = side * block, (side, side)
            x, w = _int8(rng, size, size), _int8(rng, size, size)
            for algorithm in ALGORITHMS:
                run = partial(mesh_gemm, x, w, mesh=mesh, algorithm=algorithm)
                what, asked = f"{size}x{size}x{size}", GEMM_ASKED.get(block)
                add(what, mesh, algorithm, asked, run, f"{block}")
    progress.stop()
    console.print(table)
    console.print("MAC/cycle are those of a tile, 8 at most.")
    console.print(
        f"published, WSE-2: 32Kx32K by vector {GEMV_SHARE:.1%} of SRAM bandwidth; a decode layer "
        f"{LAYER_SHARES[0]:.1%} (LLaMA3-8B) to {LAYER_SHARES[1]:.1%} (72B) of peak (WaferLLM, "
        "derived)",
        soft_wrap=True,
    )
