# SPDX-License-Identifier: BSD-2-Clause
"""Account of a layer on the mesh."""

from __future__ import annotations

from typing import Any

from diptych.config import TILE_MACS
from diptych_sim.account.limits import check_limits
from diptych_sim.account.tiles import add_tiles, tile_changes
from diptych_sim.run.layer import LayerRun

__all__ = ["account_layer"]


def account_layer(done: LayerRun) -> dict[str, Any]:
    """Return the accounts of a layer, and of the whole token (``token``) that it is a part of.

    ``operations`` are those of the layer, in order, with their cycles. ``cycles_by_cause`` are tile
    cycles, and these and ``bytes`` are the token's.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles, or something is beyond its limit.
    """
    peak = done.cycles * done.machine.tiles * TILE_MACS
    result = {
        "cycles": done.cycles,
        "bound_cycles": done.bound_cycles,
        "macs": done.macs,
        "mac_utilization": done.macs / peak,
        "operations": [{"operation": name, "cycles": cycles} for name, cycles in done.operations],
    }
    check_limits("the layer", result)
    cycles = len(done.followed)
    token = add_tiles(tile_changes(done.before, done.after, cycles))
    return {**result, "token": {"cycles": cycles, **token}}
