# SPDX-License-Identifier: BSD-2-Clause
"""Compares a mesh on lanes with the same mesh in Verilator: every register in every cycle."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diptych.mesh.panel import DecodePanel
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.lanes.digest import MeshDigest
from diptych_sim.engine.lanes.mesh import LaneMesh

from .verilator import states_in_verilator

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first that there is, by cycle, tile and name."""

    cycle: int
    """Cycles since the end of reset that led to it."""
    tile: tuple[int, int]
    signal: str
    verilator: list[int]
    lanes: list[int]
    """Words of a memory, or one value."""

    def __str__(self) -> str:
        pairs = list(zip(self.lanes, self.verilator, strict=True))
        word = next(n for n, (here, there) in enumerate(pairs) if here != there)
        here, there = pairs[word]
        which = f"{self.signal}[{word}]" if len(self.lanes) > 1 else self.signal
        return (
            f"cycle {self.cycle}, tile {self.tile[0]},{self.tile[1]}: {which} is {here:#x} on "
            f"lanes and {there:#x} in Verilator"
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Extent of a comparison, and the first difference."""

    first: Difference | None
    registers: int
    """Of each tile, in every cycle."""
    memories: int
    """Of each tile, at checkpoints, with all registers."""


def compare(
    mesh: tuple[int, int], load: Sequence[Sequence[int]], cycles: Sequence[int]
) -> Comparison:
    """Send words into the rows of both meshes, and compare their tiles.

    Parameters
    ----------
    mesh : (int, int)
        Rows and columns.
    load : list of list of int
        Words of each row.
    cycles : sequence of int
        Checkpoints, in order: cycles since the end of reset after which all is compared, memories
        too. Until the last, digests of all registers of each tile are compared in every cycle.

    Raises
    ------
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    with tempfile.TemporaryDirectory(prefix="diptych-") as name, LaneMesh(*mesh) as lanes:
        folder = Path(name)
        # Verilog has no register for some that are only ports, and lacks what nothing reads.
        names = sorted({*lanes.registers(), *lanes.memories()})
        theirs = _verilator(mesh, load, names, cycles, folder, digests=True)
        digests = np.fromfile(folder / "digests", dtype=np.uint64).reshape(cycles[-1] + 1, -1)
        states = dict(zip(cycles, theirs["states"], strict=True))
        found = {key.split(" ", 2)[2] for key in theirs["states"][0]}
        digest = MeshDigest(lanes, theirs["registers"])
        lanes.reset()
        lanes.feed(load)
        first = None
        for cycle, expected in enumerate(digests):
            if not np.array_equal(digest.tiles(), expected):
                again = _verilator(mesh, load, names, [cycle], folder, digests=False)
                first = _difference(lanes, cycle, again["states"][0])
            elif cycle in states:
                first = _difference(lanes, cycle, states[cycle])
            if first is not None:
                break
            lanes.run(1)
        registers = len(theirs["registers"])
        return Comparison(first=first, registers=registers, memories=len(found) - registers)


def _difference(lanes: LaneMesh, cycle: int, state: dict[str, list[int]]) -> Difference | None:
    mine = {**lanes.registers(), **lanes.memories()}
    places = [(key.split(" ", 2), value) for key, value in state.items()]
    for (row, column, name), there in sorted(places, key=lambda p: (int(p[0][0]), int(p[0][1]))):
        value = mine[name][int(row)][int(column)]
        here = [int(word) for word in np.atleast_1d(value)]
        if here != there:
            return Difference(
                cycle=cycle,
                tile=(int(row), int(column)),
                signal=name,
                verilator=there,
                lanes=here,
            )
    return None


def _verilator(
    mesh: tuple[int, int],
    load: Sequence[Sequence[int]],
    names: list[str],
    cycles: Sequence[int],
    folder: Path,
    *,
    digests: bool,
) -> dict[str, Any]:
    return states_in_verilator(
        partial(DecodePanel, *mesh),
        {"load": load, "mesh": mesh},
        folder,
        names=names,
        cycles=cycles,
        digests=digests,
        name="decode_panel",
        test_module="diptych_tb.lockstep.states",
        public=(("tile", "*"), ("tile.*", "*")),
        options=BuildOptions(shared=("tile",)),
    )
