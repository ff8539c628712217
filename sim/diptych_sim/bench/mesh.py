# SPDX-License-Identifier: BSD-2-Clause
"""Products on the mesh, beside what is published of a wafer."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from diptych_sim.compiler.mesh_gemm import ALGORITHMS
from diptych_sim.gemv import gemv
from diptych_sim.mesh_gemm import mesh_gemm

__all__ = ["measure"]

GEMV_SHARE = 0.048
"""Share of the SRAM's bandwidth of a 32K x 32K matrix-vector product on a WSE-2: 2.03 us.

Derived from WaferLLM (OSDI 2025), table 6. A weight is read once, so that the share of bandwidth
is that of multiplications at a weight byte for each.
"""
LAYER_SHARES = (0.032, 0.096)
"""Shares of peak of one decode layer on a WSE-2, LLaMA3-8B and 72B; derived from the same."""
GEMV = ((1024, 1024, (8, 8)), (512, 512, (8, 8)), (128, 256, (8, 8)))
SIDES = (3, 6, 9)
BLOCKS = (8, 16, 24)


def _int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def measure(console: Console, runs: int) -> None:
    """Print cycles and shares of peak; they do not depend on ``runs``, as cycles never differ."""
    del runs
    rng = np.random.default_rng(1)
    table = Table("product", "mesh", "algorithm", "cycles", "bound", "MAC/cycle/tile", "of peak")

    def add(what: str, sides: tuple[int, int], how: str, done: bool, a: dict[str, float]) -> None:
        if not done:
            console.print(f"{what} on {sides[0]}x{sides[1]}, {how}: DIFFERS FROM NumPy")
        rate = a["macs"] / (a["cycles"] * sides[0] * sides[1])
        table.add_row(
            what,
            f"{sides[0]}x{sides[1]}",
            how,
            f"{a['cycles']:,}",
            f"{a['bound_cycles']:,}",
            f"{rate:.2f}",
            f"{a['mac_utilization']:.1%}",
        )

    for k, n, mesh in GEMV:
        product = gemv(_int8(rng, k), _int8(rng, n, k), mesh=mesh)
        add(f"{n}x{k} by vector", mesh, "fabric sums", product.matches_golden, product.accounts)
    for side in SIDES:
        for block in BLOCKS:
            size = side * block
            x, w = _int8(rng, size, size), _int8(rng, size, size)
            for algorithm in ALGORITHMS:
                result = mesh_gemm(x, w, mesh=(side, side), algorithm=algorithm)
                what = f"{size}x{size}x{size}, {block} a tile"
                add(what, (side, side), algorithm, result.matches_golden, result.accounts)
    console.print(table)
    console.print(
        f"published, WSE-2: 32Kx32K by vector {GEMV_SHARE:.1%} of SRAM bandwidth; a decode layer "
        f"{LAYER_SHARES[0]:.1%} (LLaMA3-8B) to {LAYER_SHARES[1]:.1%} (72B) of peak (WaferLLM, "
        "derived)",
        soft_wrap=True,
    )
