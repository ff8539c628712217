# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated prefill panel, from HBM to HBM."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.systolic.matrix import MATRIX_CAUSES
from diptych.systolic.with_hbm import PrefillWithHbm
from diptych_sim.account.accounts import AccountError
from diptych_sim.compiler.gemm import compile_gemm
from diptych_sim.engine.build import Progress
from diptych_sim.engine.simulate import Run, simulate

__all__ = ["PANEL_NAME", "PANEL_PUBLIC", "Gemm", "gemm", "gemm_bound"]

PANEL_NAME = "prefill_with_hbm"
PANEL_PUBLIC = (
    (f"{PANEL_NAME}.hbm", "clk"),
    (f"{PANEL_NAME}.hbm", "axi__*"),
    (f"{PANEL_NAME}.hbm", "count_*"),
    *(
        (f"{PANEL_NAME}.panel.{part}", "count_*")
        for part in (
            "queues",
            "matrix",
            "vector",
            "load",
            "store",
            "scratchpad",
            "accumulators",
        )
    ),
)
"""What testbenches of a panel with its HBM look at; the same for all, so that they share builds."""


@dataclass(frozen=True, kw_only=True)
class Gemm:
    """What a product gave, and what it cost."""

    matches_golden: bool
    """Whether every word that reached the HBM equals NumPy's."""
    accounts: dict[str, Any]
    run: Run


def gemm_bound(m: int, k: int, n: int, rows: int, columns: int) -> int:
    """Cycles of the array alone: ``R + (F - 1) max(M, R) + M + R + C - 2`` for F tiles.

    Source: a weight-stationary array whose weights load behind the rows of the tile before.
    """
    tiles = -(-k // rows) * -(-n // columns)
    return rows + (tiles - 1) * max(m, rows) + m + rows + columns - 2


def gemm(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    *,
    array: tuple[int, int],
    hbm_bytes_per_cycle: int = 64,
    hbm_latency: int = 100,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Gemm:
    """Compute ``x @ w + bias`` (int8 [M, K], int8 [K, N], int32 [N]), modulo 2**32.

    Raises
    ------
    GemmError
        If it does not fit into the HBM.
    AccountError
        If counters contradict each other or the monitors.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    rows, columns = array
    compiled = compile_gemm(x, w, bias, rows=rows, columns=columns)
    size = 2**20
    while size < len(compiled.program.hbm):
        size *= 2
    (m, k), n = x.shape, w.shape[1]
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        place = Path(folder)
        (place / "hbm.bin").write_bytes(compiled.program.hbm)
        limit = 100_000 + 20 * gemm_bound(m, k, n, rows, columns) * (64 // hbm_bytes_per_cycle)
        job = {
            "hbm": "hbm.bin",
            "program": compiled.program.program_address,
            "limit": limit + 4 * hbm_latency * len(compiled.program.commands.commands),
        }
        (place / "job.json").write_text(json.dumps(job))
        events: list[dict[str, Any]] = []
        run = simulate(
            PrefillWithHbm(
                rows,
                columns,
                hbm_bytes=size,
                latency=hbm_latency,
                bytes_per_cycle=hbm_bytes_per_cycle,
            ),
            name=PANEL_NAME,
            test_module="diptych_tb.systolic.gemm",
            env={"DIPTYCH_GEMM": place / "job.json"},
            public=PANEL_PUBLIC,
            seed=seed,
            progress=progress,
            on_event=events.append,
        )
        written = (place / "written.bin").read_bytes()
    expected = x.astype(np.int64) @ w.astype(np.int64)
    if bias is not None:
        expected = expected + bias
    got = np.array(
        [
            np.frombuffer(written, "<u4", count=n, offset=compiled.result + row * compiled.pitch)
            for row in range(m)
        ]
    )
    end = next(event for event in events if event["kind"] == "gemm")
    return Gemm(
        matches_golden=bool(np.array_equal(got, expected % 2**32)),
        accounts=_account(end, m, k, n, array, compiled.operand_bytes),
        run=run,
    )


def _account(
    end: dict[str, Any], m: int, k: int, n: int, array: tuple[int, int], operand_bytes: int
) -> dict[str, Any]:
    rows, columns = array
    cycles, parts = end["cycles"], end["parts"]
    causes = {name: parts["matrix"][name] for name in MATRIX_CAUSES}
    causes["idle"] -= sum(causes.values()) - cycles
    if causes["idle"] < 0:
        raise AccountError(f"Causes of the matrix engine must sum to {cycles} cycles, not more")
    for what, beats in (("hbm_read", "beats_read"), ("hbm_write", "beats_written")):
        if parts["hbm"][what] != 64 * end[beats]:
            raise AccountError(
                f"Counter of {what} must agree with the monitor's {64 * end[beats]}, "
                f"not {parts['hbm'][what]}"
            )
    return {
        "cycles": cycles,
        "bound_cycles": gemm_bound(m, k, n, rows, columns),
        "macs": m * k * n,
        "mac_utilization": m * k * n / (cycles * rows * columns),
        "cycles_by_cause": causes,
        "bytes": {**parts["hbm"], **parts["scratchpad"], **parts["accumulators"]},
        "operand_bytes": operand_bytes,
    }
