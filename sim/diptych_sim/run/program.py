# SPDX-License-Identifier: BSD-2-Clause
"""Runs a tile program of one's own on the simulated mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.mesh_kernels.custom_program import TileContents, compile_program
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.engine.names import Engine
from diptych_sim.engine.waves import WavePlan
from diptych_sim.run.kernel import run_kernel

__all__ = ["ProgramRun", "run_program"]


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """Results of a tile program, and its cost."""

    results: NDArray[np.uint32]
    """Words of the result, [rows, columns, words]."""
    cycles: int
    """From the first cycle in which a tile is busy to the first in which none is."""
    accounts: dict[str, Any]
    """Cycles by cause and bytes by level, summed over the tiles."""


def run_program(
    program: Assembler,
    contents: Callable[[int, int], TileContents],
    *,
    mesh: tuple[int, int],
    result_address: int,
    result_words: int,
    sram_bytes: int = 16384,
    engine: Engine = "verilator",
    waves: WavePlan | None = None,
) -> ProgramRun:
    """Load ``program`` into every tile, run it once, and read its result from every tile.

    Program, routes, registers and memory enter through the fabric, and results leave through it;
    neither counts as cycles of the program.

    Parameters
    ----------
    program : Assembler
        Starts at its first instruction and ends with END.
    contents : callable
        Returns the :class:`.TileContents` of a row and a column.
    mesh : tuple of int
        Rows and columns.
    result_address, result_words : int
        Where the result lies in the SRAM of each tile: bytes, and 32-bit words.
    sram_bytes : int
        Size of a tile's SRAM.
    engine : {"verilator", "lanes"}
        Both give the same results and cycles.
    waves : WavePlan, optional
        Cycles and blocks to record.

    Raises
    ------
    KernelError, RouteError
        If the program or its routes do not fit the mesh.
    AccountError, BuildError, SimulationError, ToolError
        As of :func:`.run_kernel`; a mesh that hangs is a SimulationError, with the tile, the
        instruction, and the resource that it waits for.
    """
    rows, columns = mesh
    kernel = compile_program(
        program,
        [[contents(r, c) for c in range(columns)] for r in range(rows)],
        result_address=result_address,
        result_words=result_words,
        sram_bytes=sram_bytes,
    )
    done = run_kernel(kernel, useful_macs=0, engine=engine, waves=waves)
    # Turns are columns: [column][row][word].
    results = np.array(done.results, np.uint32).transpose(1, 0, 2)
    return ProgramRun(results=results, cycles=done.accounts["cycles"], accounts=done.accounts)
