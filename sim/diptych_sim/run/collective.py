# SPDX-License-Identifier: BSD-2-Clause
"""Runs collectives on the simulated mesh, from vectors in place to vectors in place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.collectives.compile import (
    Collective,
    CompiledCollective,
    compile_collective,
    expected_results,
)
from diptych_sim.cost.collectives import predict
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.simulate import Run
from diptych_sim.host.jobs import CollectiveJob, CollectiveResult

from .backend import MeshBackend, VerilatorMesh

__all__ = ["CollectiveRun", "collective", "random_vectors"]


@dataclass(frozen=True, kw_only=True)
class CollectiveRun:
    """A collective, and what was counted."""

    matches_golden: bool
    """Whether every vector that it was to write, read through the fabric, equals NumPy's."""
    measured: CollectiveResult
    collective: Collective
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
    backend: MeshBackend | None = None,
    checkpoint: Checkpoint | None = None,
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
    BuildError, CheckpointError, HangError, SimulationError, ToolError
        As of :meth:`.MeshBackend.run`.
    """
    compiled = compile_collective(c, vectors)
    job = CollectiveJob(
        mesh=(c.rows, c.columns),
        parameters={"colors": compiled.colors, "hop_cycles": c.hop_cycles},
        load=compiled.load,
        start=compiled.start,
        gather=compiled.gather,
        waited=compiled.waited,
        written=compiled.written,
        results=c.columns * c.words,
        lines=compiled.program.lines,
        colors={},
        limit=2000 + 20 * predict(c),
        checkpoint=checkpoint,
    )
    measured, run = (backend or VerilatorMesh()).run(job)
    expected, must = expected_results(c, vectors)
    got = np.array(measured.words, np.uint32).reshape(vectors.shape)
    return CollectiveRun(
        matches_golden=bool(np.array_equal(got[must], expected[must])),
        measured=measured,
        collective=c,
        compiled=compiled,
        run=run,
    )
