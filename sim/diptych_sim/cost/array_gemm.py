# SPDX-License-Identifier: BSD-2-Clause
"""Products on the prefill panel: their bound, and the choice of the fastest program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.compiler.array_gemm.compile import (
    GemmCandidate,
    GemmProgram,
    Operand,
    gemm_candidates,
)

from .prefill import PrefillCost, prefill_cost

__all__ = ["READ_SHARE", "fastest_gemm", "gemm_bound"]

READ_SHARE = 1.05
"""HBM reads that a program should need at most, in operand bytes."""


def gemm_bound(
    m: int, k: int, n: int, machine: MachineConfig = DEFAULTS, *, activation_bytes: int = 1
) -> int:
    """Cycles of the array alone, or of HBM alone if it takes longer.

    Array: ``W + (F - 1) max(M, W) + M + R + C - 2`` for F tiles, whose weights take W cycles,
    R / weight_rows, and load behind the rows of the tile before. HBM: each byte of the operands
    and of the result once.
    """
    rows, columns = machine.array
    tiles = -(-k // rows) * -(-n // columns)
    load = rows // machine.weight_rows
    array = load + (tiles - 1) * max(m, load) + m + rows + columns - 2
    moved = m * k * activation_bytes + k * n + 4 * m * n
    return max(array, -(-moved // machine.hbm_bytes_per_cycle))


def fastest_gemm(
    x: Operand,
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    machine: MachineConfig = DEFAULTS,
) -> tuple[GemmProgram, PrefillCost]:
    """Compile ``x @ w + bias``: the program with the fewest predicted cycles, and its cost.

    Programs whose HBM reads stay within :data:`READ_SHARE` come first. Parameters are those of
    :func:`.gemm_candidates`.

    Raises
    ------
    GemmError
        If operands and result do not fit into the HBM.
    """
    best: tuple[tuple[bool, float], GemmCandidate, PrefillCost] | None = None
    rows, columns = machine.array
    for candidate in gemm_candidates(x, w, bias, machine):
        cost = prefill_cost(
            candidate.without_image(),
            rows=rows,
            columns=columns,
            weight_rows=machine.weight_rows,
            latency=machine.hbm_latency,
            bytes_per_cycle=machine.hbm_bytes_per_cycle,
        )
        over = max(0.0, cost.predicted_hbm_read / candidate.operand_bytes - READ_SHARE)
        rank = (over > 0, cost.predicted_cycles * (1 + over))
        if best is None or rank < best[0]:
            best = rank, candidate, cost
    assert best is not None
    return best[1].program(), best[2]
