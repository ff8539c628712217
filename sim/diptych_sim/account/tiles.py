# SPDX-License-Identifier: BSD-2-Clause
"""Counters of tiles as cycles by cause and bytes by level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diptych.mesh.core import CAUSES
from diptych.mesh.fabric import DIRECTION_NAMES
from diptych_sim.account.errors import AccountError
from diptych_sim.cost.decode import WAVELET_BYTES

__all__ = ["add_tiles", "bytes_by_level", "fabric_bytes", "tile_changes"]


def bytes_by_level(**known: int | None) -> dict[str, int | None]:
    """Return the bytes moved at each level, None where there is no such level."""
    levels = (
        "hbm_read hbm_write scratchpad_read scratchpad_write accumulator_read accumulator_write "
        "sram_read sram_write fabric_hops link"
    )
    return {name: known.get(name) for name in levels.split()}


def fabric_bytes(counters: Mapping[str, int]) -> int:
    """Return bytes times hops: what left to neighbors."""
    return WAVELET_BYTES * sum(counters[way] for way in DIRECTION_NAMES)


def tile_changes(
    before: Iterable[Mapping[str, int]], after: Iterable[Mapping[str, int]], cycles: int
) -> list[dict[str, int]]:
    """Return what each tile counted in so many cycles; counters may wrap.

    Raises
    ------
    AccountError
        If a tile's causes do not sum to the cycles.
    """
    changes = [
        {name: (new[name] - old[name]) % 2**32 for name in new}
        for old, new in zip(before, after, strict=True)
    ]
    for index, tile in enumerate(changes):
        counted = sum(tile[cause] for cause in CAUSES)
        if counted != cycles:
            raise AccountError(f"Causes of tile {index} must sum to {cycles} cycles, not {counted}")
    return changes


def add_tiles(changes: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """Return ``macs``, ``cycles_by_cause`` (tile cycles) and ``bytes`` of all tiles together."""
    total: dict[str, int] = {name: sum(tile[name] for tile in changes) for name in changes[0]}
    return {
        "macs": total["macs"],
        "cycles_by_cause": {cause: total[cause] for cause in CAUSES},
        "bytes": bytes_by_level(
            sram_read=total["sram_read"],
            sram_write=total["sram_write"],
            fabric_hops=fabric_bytes(total),
        ),
    }
