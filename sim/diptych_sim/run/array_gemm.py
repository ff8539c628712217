# SPDX-License-Identifier: BSD-2-Clause
"""Multiplies matrices on the simulated prefill panel, from HBM to HBM."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.account.generation import AccountError
from diptych_sim.compiler.array_gemm.compile import GemmProgram, compile_gemm
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


def gemm_bound(
    m: int,
    k: int,
    n: int,
    rows: int,
    columns: int,
    *,
    weight_rows: int = 1,
    bytes_per_cycle: int = BEAT_BYTES,
) -> int:
    """Cycles of the array alone, or of HBM alone if it takes longer.

    Array: ``W + (F - 1) max(M, W) + M + R + C - 2`` for F tiles, whose weights take W cycles,
    R / weight_rows, and load behind the rows of the tile before. HBM: each byte of the operands
    and of the result once.
    """
    tiles = -(-k // rows) * -(-n // columns)
    load = rows // weight_rows
    array = load + (tiles - 1) * max(m, load) + m + rows + columns - 2
    return max(array, -(-(m * k + k * n + 4 * m * n) // bytes_per_cycle))


def gemm(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    *,
    array: tuple[int, int],
    hbm_bytes_per_cycle: int = 64,
    hbm_latency: int = 100,
    weight_rows: int = 1,
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
    compiled = compile_gemm(
        x,
        w,
        bias,
        rows=rows,
        columns=columns,
        weight_rows=weight_rows,
        latency=hbm_latency,
        bytes_per_cycle=hbm_bytes_per_cycle,
    )
    size = 2**20
    while size < len(compiled.program.hbm):
        size *= 2
    (m, k), n = x.shape, w.shape[1]
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        place = Path(folder)
        (place / "hbm.bin").write_bytes(compiled.program.hbm)
        bound = gemm_bound(
            m,
            k,
            n,
            rows,
            columns,
            weight_rows=weight_rows,
            bytes_per_cycle=hbm_bytes_per_cycle,
        )
        limit = 100_000 + 20 * bound
        job = {
            "hbm": "hbm.bin",
            "program": compiled.program.program_address,
            "limit": limit + 4 * hbm_latency * len(compiled.program.commands.commands),
        }
        (place / "job.json").write_text(json.dumps(job))
        events: list[dict[str, Any]] = []
        run = simulate(
            partial(
                PrefillWithHbm,
                rows,
                columns,
                hbm_bytes=size,
                latency=hbm_latency,
                bytes_per_cycle=hbm_bytes_per_cycle,
                weight_rows=weight_rows,
            ),
            name=PANEL_NAME,
            test_module="diptych_sim.host.array_gemm",
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
        accounts=_account(end, (m, k, n), array, bound, compiled),
        run=run,
    )


def _account(
    end: dict[str, Any],
    shape: tuple[int, int, int],
    array: tuple[int, int],
    bound: int,
    compiled: GemmProgram,
) -> dict[str, Any]:
    m, k, n = shape
    rows, columns = array
    cycles, parts = end["cycles"], end["parts"]
    causes = {name: parts["matrix"][name] for name in MATRIX_CAUSES}
    causes["idle"] -= sum(causes.values()) - cycles
    if causes["idle"] < 0:
        raise AccountError(f"Causes of the matrix engine must sum to {cycles} cycles, not more")
    for what, beats in (("hbm_read", "beats_read"), ("hbm_write", "beats_written")):
        if parts["hbm"][what] != BEAT_BYTES * end[beats]:
            raise AccountError(
                f"Counter of {what} must agree with the monitor's {BEAT_BYTES * end[beats]}, "
                f"not {parts['hbm'][what]}"
            )
    return {
        "cycles": cycles,
        "bound_cycles": bound,
        "predicted_cycles": compiled.cost.predicted_cycles,
        "predicted_hbm_read": compiled.cost.predicted_hbm_read,
        "macs": m * k * n,
        "mac_utilization": m * k * n / (cycles * rows * columns),
        "cycles_by_cause": causes,
        "bytes": {
            **parts["hbm"],
            **parts["scratchpad"],
            **parts["accumulators"],
            # Levels that this panel does not have.
            **dict.fromkeys(("sram_read", "sram_write", "fabric_hops", "link")),
        },
        "operand_bytes": compiled.operand_bytes,
        "program_bytes": BEAT_BYTES * end["beats_of_program"],
        "commands": len(compiled.program.commands.commands),
    }
