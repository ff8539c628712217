# SPDX-License-Identifier: BSD-2-Clause
"""Each phase on each panel, and whole requests in three ways, all in RTL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diptych.config import TILE_MACS, MachineConfig
from diptych.systolic.panel import panel_sizes
from diptych_sim.engine.build import Progress
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.golden.quantized import QuantizedModel

from .array_request import ArrayRequest, array_request
from .generate import Generation, generate
from .mesh_request import MeshRequest, mesh_request

__all__ = ["Point", "array_memory", "equal_machine", "measure_point", "weight_bandwidths"]

_STATE_BYTES = 24
"""Bytes of a row's state in the prefill panel: six words."""
_TILE_STEP = 256
"""SRAM of a tile is a multiple of so many bytes."""
_MOST_SRAM = 65536
_SIDES = (4, 8, 16, 32, 64, 128)


def array_memory(array: tuple[int, int]) -> int:
    """Return the bytes of a prefill panel's memories, without its HBM."""
    sizes = panel_sizes(*array)
    entries = 4 * (sizes.accumulators + sizes.parameters + sizes.biases) + 2 * sizes.vectors
    return sizes.scratchpad + entries * sizes.lanes + _STATE_BYTES * sizes.rows


def equal_machine(
    machine: MachineConfig, *, array: tuple[int, int] | None, mesh: tuple[int, int] | None
) -> MachineConfig:
    """Return a machine whose panels have equal MACs and, as far as tiles may, equal memory.

    The side that is None follows the other; a tile gets its share of the array's memory. The array
    loads as many rows of weights in a cycle as the HBM delivers, if it can.

    Raises
    ------
    ValueError
        If there is no such machine.
    """
    mesh = mesh or (machine.mesh if array is None else _mesh_of(array[0] * array[1]))
    macs = mesh[0] * mesh[1] * TILE_MACS
    array = array or _array_of(macs, mesh)
    if array[0] * array[1] != macs:
        raise ValueError(
            f"Array and mesh must have equal MACs: {array[0]}x{array[1]} has "
            f"{array[0] * array[1]}, {mesh[0]}x{mesh[1]} tiles have {macs}"
        )
    share = array_memory(array) // (mesh[0] * mesh[1]) // _TILE_STEP * _TILE_STEP
    machine = replace(
        machine, array=array, mesh=mesh, weight_rows=1, sram_bytes=min(_MOST_SRAM, share)
    )
    rows = 1
    while (
        4 * 2 * rows <= array[0]
        and rows < 4
        and weight_bandwidths(machine)[0] < machine.hbm_bytes_per_cycle
        and array[1] >= array[0]
    ):
        rows *= 2
        machine = replace(machine, weight_rows=rows)
    return machine


def _array_of(macs: int, mesh: tuple[int, int]) -> tuple[int, int]:
    """Return the array with so many elements that is nearest to a square, and not higher than wide."""
    found = [(rows, macs // rows) for rows in _SIDES if macs % rows == 0]
    found = [size for size in found if size[1] in _SIDES and size[0] <= size[1]]
    if not found:
        raise ValueError(
            f"Mesh must have as many MACs as an array of powers of two from 4 to 128, "
            f"not {macs} of {mesh[0]}x{mesh[1]} tiles"
        )
    return found[-1]


def _mesh_of(macs: int) -> tuple[int, int]:
    tiles = macs // TILE_MACS
    rows = 1 << (tiles.bit_length() - 1) // 2
    return rows, tiles // rows


def weight_bandwidths(machine: MachineConfig) -> tuple[int, int]:
    """Return the bytes of weights that array and mesh can take in a cycle.

    The array: what the HBM delivers, or what it can load if that is less; the mesh: 8 from each
    tile's SRAM.
    """
    rows, columns = machine.array
    loads = columns * (machine.weight_rows if columns >= rows else 1)
    return min(machine.hbm_bytes_per_cycle, loads), TILE_MACS * machine.tiles


@dataclass(frozen=True, kw_only=True)
class Point:
    """The same requests in every way.

    Attributes
    ----------
    prompts : sequence of sequence of int
        Prompts of one length.
    tokens : int
        Tokens after each.
    machine : MachineConfig
        The machine.
    array, mesh : ArrayRequest, MeshRequest
        On one panel alone.
    split : Generation
        Prefill on the array, decode on the mesh, a layer's KV cache crossing as it is there.
    serial : Generation or None
        The same, the KV cache crossing after prefill.
    """

    prompts: Sequence[Sequence[int]]
    tokens: int
    machine: MachineConfig
    array: ArrayRequest
    mesh: MeshRequest
    split: Generation
    serial: Generation | None

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        runs = [self.array, self.mesh, self.split, self.serial]
        found = (run.difference for run in runs if run is not None)
        return next(filter(None, found), None)


def measure_point(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    machine: MachineConfig,
    engine: Engine = DEFAULT_ENGINE,
    serial: bool = True,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Point:
    """Run requests in every way.

    Raises
    ------
    MeshTooSmallError, PrefillError, UnsupportedModelError
        If a panel cannot run the model or the prompts.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    common: dict[str, Any] = {
        "machine": machine,
        "engine": engine,
        "seed": seed,
        "progress": progress,
    }
    counts = [tokens] * len(prompts)
    # What a panel refuses comes before the first build.
    mesh = mesh_request(model, prompts, tokens, **common)
    array = array_request(model, prompts, tokens, **common)
    split = generate(model, prompts, counts, **common)
    other = generate(model, prompts, counts, hand_off="serial", **common) if serial else None
    return Point(
        prompts=prompts,
        tokens=tokens,
        machine=machine,
        array=array,
        mesh=mesh,
        split=split,
        serial=other,
    )
