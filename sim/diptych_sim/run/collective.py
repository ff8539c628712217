# SPDX-License-Identifier: BSD-2-Clause
"""Runs collectives on the simulated mesh, from vectors in place to vectors in place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.mesh.panel import DecodePanel
from diptych_sim.account.errors import AccountError
from diptych_sim.account.tiles import add_tiles, tile_changes
from diptych_sim.compiler.collectives.compile import (
    Collective,
    CompiledCollective,
    compile_collective,
    expected_results,
)
from diptych_sim.cost.collectives import bound_cycles, predict, published_cycles
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.run import lanes_mesh as lane_runs
from diptych_sim.run.verilator_mesh import run_job

__all__ = ["CollectiveRun", "collective", "random_vectors"]


@dataclass(frozen=True, kw_only=True)
class CollectiveRun:
    """What a collective gave, and what it cost."""

    matches_golden: bool
    """Whether every vector that it was to write, read through the fabric, equals NumPy's."""
    accounts: dict[str, Any]
    compiled: CompiledCollective
    run: Run


def random_vectors(c: Collective, seed: int) -> NDArray[np.uint32]:
    """Return vectors [rows, columns, words]: any words, or for an arg-max keys that often tie."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 2**32, (c.rows, c.columns, c.words), np.uint32)
    if c.combine.name == "ARGMAX":
        vectors[..., 0::2] = rng.integers(-2, 3, vectors[..., 0::2].shape).astype(np.uint32)
    return vectors


def collective(
    c: Collective,
    vectors: NDArray[np.uint32],
    *,
    waves: WavePlan | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> CollectiveRun:
    """Run a collective of vectors [rows, columns, words].

    Vectors, program and routes are loaded through the fabric, and all tiles start in one cycle,
    each with its vector in its SRAM. Cycles run from that one, in which each tile issues its first
    instruction, to that in which the last result word is written to an SRAM, both counted. Then
    the results are read through the fabric.

    Raises
    ------
    CollectiveError
        If it does not fit.
    AccountError
        If a tile's causes do not sum to the cycles, or tiles do not start together.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    compiled = compile_collective(c, vectors)
    limit, results = 2000 + 20 * predict(c), c.columns * c.words
    if engine == "lanes" and waves is None:
        end, words, run = lane_runs.run_collective(
            compiled,
            (c.rows, c.columns),
            results=results,
            limit=limit,
            hop_cycles=c.hop_cycles,
            checkpoint=checkpoint,
            progress=progress,
        )
        return _finished(c, vectors, compiled, end, words, run)
    parameters = {"colors": compiled.colors, "hop_cycles": c.hop_cycles}
    apart = engine == "lanes"
    events, run = run_job(
        partial(DecodePanel, c.rows, c.columns, **parameters, apart=apart),
        "collective",
        {
            "mesh": [c.rows, c.columns],
            "load": compiled.load,
            "start": compiled.start,
            "gather": compiled.gather,
            "waited": compiled.waited,
            "written": compiled.written,
            "results": results,
            "lines": compiled.program.lines,
            "colors": {},
            "limit": limit,
        },
        lanes=parameters if apart else None,
        waves=waves,
        seed=seed,
        progress=progress,
    )
    words = next(event["words"] for event in events if event["kind"] == "results")
    end = next(event for event in events if event["kind"] == "collective")
    return _finished(c, vectors, compiled, end, words, run)


def _finished(
    c: Collective,
    vectors: NDArray[np.uint32],
    compiled: CompiledCollective,
    end: dict[str, Any],
    words: list[list[int]],
    run: Run,
) -> CollectiveRun:
    expected, must = expected_results(c, vectors)
    got = np.array(words, np.uint32).reshape(vectors.shape)
    return CollectiveRun(
        matches_golden=bool(np.array_equal(got[must], expected[must])),
        accounts=_account(c, end),
        compiled=compiled,
        run=run,
    )


def _account(c: Collective, end: dict[str, Any]) -> dict[str, Any]:
    starts = end["starts"]
    if min(starts) != max(starts):
        raise AccountError(
            f"Tiles must start in one cycle, not from {min(starts)} to {max(starts)}"
        )
    cycles = end["end"] - starts[0]
    changes = tile_changes(end["before"], end["after"], cycles)
    return {
        "cycles": cycles,
        "bound_cycles": bound_cycles(c),
        "predicted_cycles": predict(c),
        "published_cycles": published_cycles(c),
        "mac_utilization": 0.0,
        **add_tiles(changes),
    }
