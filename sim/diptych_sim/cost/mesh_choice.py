# SPDX-License-Identifier: BSD-2-Clause
"""Chooses a mesh for a model: the fastest of those that hold it, by the closed form of its cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.placement import MeshTooSmallError, Placement, try_place
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.projection.own_machine import decode_cycles
from diptych_sim.llm.model import ModelConfig

__all__ = ["MeshChoice", "choose_mesh"]

_LARGEST = 128
"""Rows and columns at most: what the rest of the machine knows."""
_WORD = 8
"""Elements that a tile multiplies in a cycle."""


@dataclass(frozen=True, kw_only=True)
class MeshChoice:
    """A mesh, and why.

    Attributes
    ----------
    mesh : (int, int)
        Rows and columns.
    cycles : int
        Of a token, by the closed form.
    placement : Placement
        How the model lies in it.
    others : int
        Meshes that hold the model and are slower.
    """

    mesh: tuple[int, int]
    cycles: int
    placement: Placement
    others: int


def choose_mesh(
    config: ModelConfig, *, positions: int, sram_bytes: int, max_tiles: int
) -> MeshChoice:
    """Return the fastest mesh of at most ``max_tiles`` tiles that holds a model.

    Of rows and columns only those are looked at that leave the fewest elements to each of them: one
    more would change nothing but the way.

    Raises
    ------
    MeshTooSmallError
        If none holds it.
    """
    shape = shape_of(config, "model")
    found: list[tuple[int, tuple[int, int], Placement]] = []
    for mesh in _meshes(config, max_tiles):
        placement = try_place(config, *mesh, positions=positions, sram_bytes=sram_bytes)
        if placement is None:
            continue
        cycles = decode_cycles(shape, MachineConfig(mesh=mesh), positions)
        found.append((cycles.products + cycles.waits, mesh, placement))
    if not found:
        raise MeshTooSmallError(
            f"No mesh of at most {max_tiles} tiles with {sram_bytes} bytes of SRAM each holds "
            f"{positions} positions of this model"
        )
    cycles, mesh, placement = min(found, key=lambda one: one[:2])
    return MeshChoice(mesh=mesh, cycles=cycles, placement=placement, others=len(found) - 1)


def _meshes(config: ModelConfig, max_tiles: int) -> Iterator[tuple[int, int]]:
    """Yield meshes in which no row or column is superfluous."""
    groups = {config.head_dim // n for n in range(_WORD, config.head_dim + 1, _WORD)}
    wide = {_WORD * n for n in range(1, -(-config.hidden // _WORD) + 1)}
    columns = {-(-config.hidden // each) for each in wide}
    columns |= {heads * split for heads in (config.heads, config.kv_heads) for split in groups}
    rows = {-(-config.dim // (_WORD * n)) for n in range(1, -(-config.dim // _WORD) + 1)}
    for r in sorted(n for n in rows if n <= _LARGEST):
        for c in sorted(n for n in columns if n <= _LARGEST):
            if r * c <= max_tiles:
                yield r, c
