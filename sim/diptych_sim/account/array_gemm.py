# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of a product on the prefill panel."""

from __future__ import annotations

from typing import Any

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.account.errors import AccountError
from diptych_sim.account.limits import check_limits
from diptych_sim.account.tiles import bytes_by_level
from diptych_sim.run.array_gemm import ArrayGemm

__all__ = ["account_array_gemm"]


def account_array_gemm(done: ArrayGemm) -> dict[str, Any]:
    """Return the accounts of a product; ``cycles_by_cause`` are those of the matrix engine.

    Raises
    ------
    AccountError
        If counters contradict each other or the monitors.
    """
    m, k, n = done.shape
    macs = m * k * n
    measured = done.measured
    cycles, parts = measured.cycles, measured.parts
    causes = {name: parts["matrix"][name] for name in MATRIX_CAUSES}
    causes["idle"] -= sum(causes.values()) - cycles
    if causes["idle"] < 0:
        raise AccountError(f"Causes of the matrix engine must sum to {cycles} cycles, not more")
    for level, beats in (
        ("hbm_read", measured.beats_read),
        ("hbm_write", measured.beats_written),
    ):
        if parts["hbm"][level] != BEAT_BYTES * beats:
            raise AccountError(
                f"Counter of {level} must agree with the monitor's {BEAT_BYTES * beats}, "
                f"not {parts['hbm'][level]}"
            )
    result = {
        "cycles": cycles,
        "bound_cycles": done.bound_cycles,
        "predicted_cycles": done.cost.predicted_cycles,
        "predicted_hbm_read": done.cost.predicted_hbm_read,
        "macs": macs,
        "mac_utilization": macs / (cycles * done.machine.pes),
        "cycles_by_cause": causes,
        "observed": measured.observed,
        "bytes": bytes_by_level(**parts["hbm"], **parts["scratchpad"], **parts["accumulators"]),
        "operand_bytes": done.compiled.operand_bytes,
        "program_bytes": BEAT_BYTES * measured.beats_of_program,
        "commands": len(done.compiled.program.commands.commands),
    }
    check_limits("the product", result)
    return result
