# SPDX-License-Identifier: BSD-2-Clause
"""Cycles of one more layer of a shape on a mesh, by the cost model, for any size of mesh."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from diptych.config import TILE_MACS
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.place import try_place
from diptych_sim.compiler.decode.placement import Placement
from diptych_sim.cost.decode import decode_cost
from diptych_sim.golden.without_weights import without_weights
from diptych_sim.llm.model import ModelConfig

__all__ = ["LayerCost", "Part", "fastest_part", "layer_bound", "layer_cost", "layer_macs"]

_STEP = 8
"""Sides of parts of a mesh are multiples of it: elements are dealt by eights."""
_VOCABULARY = 64
"""Tokens of the model around the layer."""
_MODEL_BYTES = 2**40
"""SRAM of a tile for a model of two layers, which need not fit: only their programs are compared."""


@dataclass(frozen=True)
class LayerCost:
    """What the cost model says of a layer.

    Attributes
    ----------
    cycles : int
        How much longer a token takes with one layer more.
    placement : Placement
        How a layer lies in the mesh.
    """

    cycles: int
    placement: Placement


@dataclass(frozen=True)
class Part:
    """A part of a mesh, a rectangle of neighbors, that computes a layer.

    Attributes
    ----------
    mesh : (int, int)
        Its rows and columns.
    cycles : int
        Those of a layer on it, by the cost model.
    """

    mesh: tuple[int, int]
    cycles: int


def layer_macs(config: ModelConfig, position: int) -> int:
    """Return the products that a layer needs for a token at a position, attention included."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    matrices = 2 * config.dim * (queries + keys) + 3 * config.dim * config.hidden
    return matrices + 2 * queries * (position + 1)


def layer_bound(config: ModelConfig, tiles: int, position: int) -> int:
    """Return the cycles of these products on all tiles, without any way between tiles."""
    return -(-layer_macs(config, position) // (TILE_MACS * tiles))


def layer_cost(
    config: ModelConfig, rows: int, columns: int, *, position: int, sram_bytes: int
) -> LayerCost | None:
    """Return the cost of a layer for a token at a position; None if the mesh cannot hold it.

    Layers and vocabulary of the shape are not used. Nothing depends on weights, so there are none.
    """
    one = replace(config, layers=1, vocab=_VOCABULARY, context=max(2, position + 1), tied=False)
    if try_place(one, rows, columns, positions=position + 1, sram_bytes=sram_bytes) is None:
        return None
    costs = []
    for layers, room in ((1, sram_bytes), (2, _MODEL_BYTES)):
        model = without_weights(replace(one, layers=layers))
        program = compile_decode(
            model, rows, columns, prompt_tokens=position, tokens=2, sram_bytes=room
        )
        costs.append((decode_cost(program), program.placement))
    (single, placement), (double, _) = costs
    return LayerCost(double - single, placement)


def fastest_part(
    config: ModelConfig, mesh: tuple[int, int], *, position: int, sram_bytes: int
) -> Part | None:
    """Return the part of a mesh that computes a layer fastest; None if none holds it.

    A result goes to the farthest tile and back, so more tiles may be slower. Sides are multiples of
    :data:`_STEP`, or the mesh's. The search begins with the fastest square, and goes on as long as other
    rows, or other columns, are faster: a rectangle that differs in both may be faster yet.
    """
    rows, columns = ([*range(_STEP, side, _STEP), side] for side in mesh)

    def fastest(meshes: Iterable[tuple[int, int]]) -> list[Part]:
        costs = (
            (each, layer_cost(config, *each, position=position, sram_bytes=sram_bytes))
            for each in meshes
        )
        return [Part(each, cost.cycles) for each, cost in costs if cost is not None]

    def least(parts: Iterable[Part]) -> Part:
        return min(parts, key=lambda part: (part.cycles, part.mesh[0] * part.mesh[1]))

    parts = fastest([mesh, *((side, side) for side in range(_STEP, min(mesh) + 1, _STEP))])
    if not parts:
        return None
    best, before = least(parts), None
    while best != before:
        before = best
        best = least([best, *fastest((row, best.mesh[1]) for row in rows)])
        best = least([best, *fastest((best.mesh[0], column) for column in columns)])
    return best
