# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of kernels and collectives on the mesh."""

from __future__ import annotations

from typing import Any

from diptych.config import TILE_MACS
from diptych_sim.account.errors import AccountError
from diptych_sim.account.limits import check_limits
from diptych_sim.account.tiles import add_tiles, tile_changes
from diptych_sim.cost.collectives import bound_cycles, predict, published_cycles
from diptych_sim.run.collective import CollectiveRun
from diptych_sim.run.kernel import KernelRun

__all__ = ["account_collective", "account_kernel"]


def account_kernel(done: KernelRun) -> dict[str, Any]:
    """Return the accounts of a kernel; ``cycles_by_cause`` are tile cycles.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles.
    """
    measured = done.measured
    cycles, (rows, columns) = measured.cycles, done.mesh
    total = add_tiles(tile_changes(measured.before, measured.after, cycles))
    result = {
        "cycles": cycles,
        "bound_cycles": done.bound_cycles,
        **total,
        "macs": done.useful_macs,
        "mac_utilization": done.useful_macs / (cycles * rows * columns * TILE_MACS),
        "macs_with_padding": total["macs"],
    }
    check_limits("the kernel", result)
    return result


def account_collective(done: CollectiveRun) -> dict[str, Any]:
    """Return the accounts of a collective; ``cycles_by_cause`` are tile cycles.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles, or tiles do not start together.
    """
    measured, c = done.measured, done.collective
    starts = measured.starts
    if min(starts) != max(starts):
        raise AccountError(
            f"Tiles must start in one cycle, not from {min(starts)} to {max(starts)}"
        )
    cycles = measured.end - starts[0]
    changes = tile_changes(measured.before, measured.after, cycles)
    result = {
        "cycles": cycles,
        "bound_cycles": bound_cycles(c),
        "predicted_cycles": predict(c),
        "published_cycles": published_cycles(c),
        "mac_utilization": 0.0,
        **add_tiles(changes),
    }
    check_limits("the collective", result)
    return result
