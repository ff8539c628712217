# SPDX-License-Identifier: BSD-2-Clause
"""Chooses a mesh for a model: the fastest of those that hold it, by the closed form of its cycles."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.place import try_place
from diptych_sim.compiler.decode.placement import MeshTooSmallError, Placement
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.projection.own_machine import decode_cycles
from diptych_sim.llm.model import ModelConfig

__all__ = ["MeshChoice", "choose_mesh"]

_LARGEST = 128
"""Rows and columns at most: what the rest of the machine knows."""


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
    """

    mesh: tuple[int, int]
    cycles: int
    placement: Placement


def choose_mesh(
    config: ModelConfig, *, positions: int, sram_bytes: int, max_tiles: int, **kind: bool
) -> MeshChoice:
    """Return the fastest mesh of at most ``max_tiles`` tiles that holds a model.

    ``kind``: as of :func:`.try_place`.

    Raises
    ------
    MeshTooSmallError
        If none holds it.
    """
    shape = shape_of(config, "model")

    def cycles(mesh: tuple[int, int]) -> int:
        found = decode_cycles(shape, MachineConfig(mesh=mesh), positions)
        return found.products + found.waits

    sides = range(1, _LARGEST + 1)
    meshes = [(rows, columns) for rows in sides for columns in sides if rows * columns <= max_tiles]
    for count, mesh in sorted((cycles(mesh), mesh) for mesh in meshes):
        placement = try_place(config, *mesh, positions=positions, sram_bytes=sram_bytes, **kind)
        if placement is not None:
            return MeshChoice(mesh=mesh, cycles=count, placement=placement)
    raise MeshTooSmallError(
        f"No mesh of at most {max_tiles} tiles with {sram_bytes} bytes of SRAM each holds "
        f"{positions} positions of this model"
    )
