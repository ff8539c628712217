# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated prefill panel, from HBM to HBM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.compiler.array_gemm.compile import GemmProgram, Operand
from diptych_sim.cost.array_gemm import fastest_gemm, gemm_bound
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.engine.build import Progress
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.host.jobs import ArrayGemmJob, ArrayGemmResult

from .panel import run_panel

__all__ = ["ArrayGemm", "gemm"]


@dataclass(frozen=True, kw_only=True)
class ArrayGemm:
    """A product, and what was counted.

    Attributes
    ----------
    matches_golden : bool
        Whether every word that reached the HBM equals NumPy's.
    measured : ArrayGemmResult
        Cycles and counters.
    shape : (int, int, int)
        M, K and N.
    machine : MachineConfig
        The panel.
    bound_cycles : int
        As of :func:`.gemm_bound`.
    compiled : GemmProgram
        The program.
    cost : PrefillCost
        Its predicted cost.
    run : Run
        How long it took.
    """

    matches_golden: bool
    measured: ArrayGemmResult
    shape: tuple[int, int, int]
    machine: MachineConfig
    bound_cycles: int
    compiled: GemmProgram
    cost: PrefillCost
    run: Run


def gemm(
    x: Operand,
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    *,
    machine: MachineConfig = DEFAULTS,
    engine: Engine = DEFAULT_ENGINE,
    seed: int | None = None,
    progress: Progress | None = None,
) -> ArrayGemm:
    """Compute ``x @ w + bias`` (int8 or 12 bits [M, K], int8 [K, N], int32 [N]), modulo 2**32.

    Raises
    ------
    GemmError
        If it does not fit into the HBM.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    compiled, cost = fastest_gemm(x, w, bias, machine)
    (m, k), n = x.shape, w.shape[1]
    bound = gemm_bound(m, k, n, machine, activation_bytes=x.itemsize)
    commands = len(compiled.program.commands.commands)
    job = ArrayGemmJob(
        hbm="hbm.bin",
        written="written.bin",
        program=compiled.program.start,
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=100_000 + 20 * bound + 4 * machine.hbm_latency * commands,
    )
    done = run_panel(
        job, compiled.program.hbm, machine, seed=seed, progress=progress, engine=engine
    )
    assert done.hbm is not None
    expected = x.astype(np.int64) @ w.astype(np.int64)
    if bias is not None:
        expected = expected + bias
    got = np.array(
        [
            np.frombuffer(done.hbm, "<u4", count=n, offset=compiled.result + row * compiled.pitch)
            for row in range(m)
        ]
    )
    return ArrayGemm(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        measured=done.result,
        shape=(m, k, n),
        machine=machine,
        bound_cycles=bound,
        compiled=compiled,
        cost=cost,
        run=done.run,
    )
