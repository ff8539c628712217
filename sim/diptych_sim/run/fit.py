# SPDX-License-Identifier: BSD-2-Clause
"""Whether a model fits into a machine, and what it takes there, from placements alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from diptych_sim.compiler.array.hbm_layout import model_sizes
from diptych_sim.compiler.decode.place import placed_or_smallest
from diptych_sim.compiler.decode.placement import Placement, Region
from diptych_sim.llm.model import ModelConfig

__all__ = ["Fit", "fit"]

_LARGEST = 128
"""Rows and columns of a mesh at most."""
_SMALLEST_HBM = 2**20
_PARTS = {
    "weights": ("embedding", "output", "tie", "kqv", "wo", "w_gate_up", "w_down"),
    "scales": (
        "embedding_scale",
        "output_scale",
        "tie_scale",
        "kqv_scale",
        "q_norm",
        "k_norm",
        "o_scale",
        "gate_up_scale",
        "down_scale",
        "constants",
    ),
    "kv_cache": ("keys", "values"),
    "rope": ("rope_table",),
}
"""Regions by part; all others are buffers."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a model takes of a mesh and of an HBM."""

    tile_bytes: int
    """Of the SRAM of the fullest tile, with ``positions``."""
    tile_parts: Mapping[str, int]
    """The same by part; gaps between regions are ``padding``."""
    smallest_mesh: int | None
    """Side of the smallest square mesh that holds it with ``positions``; None if there is none."""
    longest_context: int
    """Positions that the mesh holds at most, 0 if it does not hold the model."""
    hbm_parts: Mapping[str, int]
    """Bytes of the HBM by part."""
    hbm_bytes: int
    """The HBM that holds them, a power of two."""


def fit(
    config: ModelConfig,
    mesh: tuple[int, int],
    array: tuple[int, int],
    *,
    positions: int,
    sram_bytes: int,
) -> Fit:
    """Place a model with a KV cache of ``positions`` as the compilers of both panels do.

    Raises
    ------
    UnsupportedModelError
        If the decode panel cannot run a model of this shape.
    """

    def placed(side: tuple[int, int], count: int) -> Placement:
        return placed_or_smallest(config, *side, positions=count, sram_bytes=sram_bytes)

    here = placed(mesh, positions)
    sides = range(1, _LARGEST + 1)
    fitting = (n for n in sides if placed((n, n), positions).tile_bytes <= sram_bytes)
    # The first count that does not fit, as bytes grow with positions.
    longest = bisect_right(
        range(1, config.context + 1), sram_bytes, key=lambda n: placed(mesh, n).tile_bytes
    )
    hbm = model_sizes(config, array)
    need = sum(-(-size // 64) * 64 for size in hbm.values())
    return Fit(
        tile_bytes=here.tile_bytes,
        tile_parts=_parts(max(here.kinds, key=lambda kind: kind.used_bytes), config.layers),
        smallest_mesh=next(fitting, None),
        longest_context=longest,
        hbm_parts=hbm,
        hbm_bytes=max(_SMALLEST_HBM, 1 << (need - 1).bit_length()),
    )


def _parts(placement: Placement, layers: int) -> dict[str, int]:
    """Return the bytes of a tile by part."""
    of = {name: part for part, names in _PARTS.items() for name in names}
    found = dict.fromkeys((*_PARTS, "buffers"), 0)

    def count(regions: Mapping[str, Region], times: int) -> None:
        for name, region in regions.items():
            part = of.get(name.partition(".")[0], "buffers")
            found[part] += region.size * times

    count(placement.fixed, 1)
    count(placement.layer, layers)
    return found | {"padding": placement.used_bytes - sum(found.values())}
