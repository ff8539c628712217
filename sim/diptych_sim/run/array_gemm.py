# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated prefill panel, from HBM to HBM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS, MachineConfig
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.compiler.array_gemm.compile import GemmProgram
from diptych_sim.cost.array_gemm import fastest_gemm, gemm_bound
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.engine.build import Progress
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.host.jobs import (
    TESTBENCH,
    ArrayGemmJob,
    ArrayGemmResult,
    result_of,
    write_job,
)
from diptych_sim.host.public_signals import PANEL_NAME, PANEL_PUBLIC

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
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    *,
    machine: MachineConfig = DEFAULTS,
    seed: int | None = None,
    progress: Progress | None = None,
) -> ArrayGemm:
    """Compute ``x @ w + bias`` (int8 [M, K], int8 [K, N], int32 [N]), modulo 2**32.

    Raises
    ------
    GemmError
        If it does not fit into the HBM.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    compiled, cost = fastest_gemm(x, w, bias, machine)
    (m, k), n = x.shape, w.shape[1]
    bound = gemm_bound(m, k, n, machine)
    commands = len(compiled.program.commands.commands)
    job = ArrayGemmJob(
        hbm="hbm.bin",
        written="written.bin",
        program=compiled.program.program_address,
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=100_000 + 20 * bound + 4 * machine.hbm_latency * commands,
    )
    events: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        (folder / job.hbm).write_bytes(compiled.program.hbm)
        run = simulate(
            partial(
                PrefillWithHbm,
                *machine.array,
                **machine.with_hbm(len(compiled.program.hbm)).array_parameters,
            ),
            name=PANEL_NAME,
            test_module=TESTBENCH,
            env=write_job(job, folder),
            public=PANEL_PUBLIC,
            seed=seed,
            progress=progress,
            on_event=events.append,
        )
        written = (folder / job.written).read_bytes()
    expected = x.astype(np.int64) @ w.astype(np.int64)
    if bias is not None:
        expected = expected + bias
    got = np.array(
        [
            np.frombuffer(written, "<u4", count=n, offset=compiled.result + row * compiled.pitch)
            for row in range(m)
        ]
    )
    return ArrayGemm(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        measured=result_of(job, events),
        shape=(m, k, n),
        machine=machine,
        bound_cycles=bound,
        compiled=compiled,
        cost=cost,
        run=run,
    )
