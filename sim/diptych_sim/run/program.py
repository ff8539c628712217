# SPDX-License-Identifier: BSD-2-Clause
"""Runs a tile program of one's own on the simulated mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS
from diptych_sim.compiler.mesh_kernels.custom_program import TileContents, compile_program
from diptych_sim.compiler.tile.assembler import Assembler

from .backend import MeshBackend
from .kernel import KernelRun, run_kernel

__all__ = ["ProgramRun", "run_program"]


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """Results of a tile program, and its cost."""

    results: NDArray[np.uint32]
    """Words of the result, [rows, columns, words]."""
    cycles: int
    """From the first cycle in which a tile is busy to the first in which none is."""
    kernel: KernelRun
    """Counters of each tile; :func:`.account_kernel` sums them by cause and level."""


def run_program(
    program: Assembler,
    contents: Callable[[int, int], TileContents],
    *,
    mesh: tuple[int, int],
    result_address: int,
    result_words: int,
    sram_bytes: int = DEFAULTS.sram_bytes,
    backend: MeshBackend | None = None,
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
    backend : MeshBackend, optional
        :func:`.mesh_backend` returns one for an engine; all give the same results and cycles.

    Raises
    ------
    KernelError, RouteError
        If the program or its routes do not fit the mesh.
    BuildError, HangError, SimulationError, ToolError
        As of :meth:`.MeshBackend.run`; a HangError names the tile, the instruction, and the
        resource that it waits for.
    """
    rows, columns = mesh
    kernel = compile_program(
        program,
        [[contents(r, c) for c in range(columns)] for r in range(rows)],
        result_address=result_address,
        result_words=result_words,
        sram_bytes=sram_bytes,
    )
    done = run_kernel(kernel, useful_macs=0, backend=backend)
    # Turns are columns: [column][row][word].
    results = np.array(done.measured.readbacks, np.uint32).transpose(1, 0, 2)
    return ProgramRun(results=results, cycles=done.measured.cycles, kernel=done)
