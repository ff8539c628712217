# SPDX-License-Identifier: BSD-2-Clause
"""Saves a run whose mesh is on lanes in a simulator, so that it resumes after it was killed.

A checkpoint is taken while nothing but the mesh works. Everything else is then as after a reset, so
the mesh is all that a run needs to resume in a simulator that has just started; counts of the
counters around the mesh are added to those of the resumed run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

import cocotb

from diptych_sim.engine.errors import CheckpointError, SimulationError
from diptych_sim.engine.lanes.checkpoint import Keeper
from diptych_sim.engine.processes import end_with_parent

from .clocking import count_on
from .cosimulated_mesh import CosimulatedMesh
from .events import report_event, reported_events
from .jobs import MeshJob
from .triggers import ClockCycles, start_soon

__all__ = ["LOOK", "ResumableRun", "resumable_run", "total"]

LOOK = 64
"""Cycles between checks for a quiet surrounding; two in a row must find it so."""


class ResumableRun:
    """A run that is saved.

    Parameters
    ----------
    keeper : Keeper
        Of the mesh, reset.
    mesh : CosimulatedMesh
        The mesh.
    resume : bool
        Whether to resume from a checkpoint.

    Attributes
    ----------
    notes : Any
        Notes of the checkpoint, as ``notes`` of :meth:`start` returned them; None for a new run.
    files : dict
        Files of the checkpoint, as ``files`` returned them.
    """

    def __init__(self, keeper: Keeper, mesh: CosimulatedMesh, *, resume: bool) -> None:
        self._keeper, self._mesh = keeper, mesh
        start = mesh.mesh.cycle
        self.notes: Any = None
        self.files: dict[str, bytes] = {}
        if resume:
            (events, self.notes), self.files = keeper.resume()
            count_on(mesh.mesh.cycle - start)
            for event in events:
                report_event(**event)

    def start(
        self,
        clk: Any,
        quiet: Callable[[], bool],
        notes: Callable[[], Any],
        files: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Save the run from now on, at times when ``quiet`` says that only the mesh works."""
        start_soon(self._run(clk, quiet, notes, files))

    async def _run(
        self,
        clk: Any,
        quiet: Callable[[], bool],
        notes: Callable[[], Any],
        files: Callable[[], Mapping[str, bytes]],
    ) -> None:
        now = False
        while True:
            await ClockCycles(clk, LOOK)
            before, now = now, False
            if self._keeper.left > 0:
                continue
            now = quiet() and self._mesh.at_rest()
            if before and now:
                try:
                    self._keeper.keep([reported_events(), notes()], files())
                except SimulationError as error:
                    report_event(kind="failed", message=str(error))
                    raise


def resumable_run(mesh: Any, job: MeshJob) -> ResumableRun | None:
    """Return a run that is saved, if the job asks for one; events before a checkpoint are reported.

    The mesh must be reset, and the clock not yet running.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or is not of this run; it is reported, too.
    """
    place = job.checkpoint
    if place is None:
        return None
    # A run that was killed must not write on beside the one that resumes it.
    if cocotb.is_simulation:
        end_with_parent(signal.SIGKILL)
    try:
        return ResumableRun(Keeper(place, mesh.mesh, [job.identity()]), mesh, resume=place.resume)
    except CheckpointError as error:
        report_event(kind="refused", message=str(error))
        raise


def total(now: Any, before: Any) -> Any:
    """Add numbers in dicts of the same shape; ``before`` may be None."""
    if before is None:
        return now
    if isinstance(now, dict):
        return {name: total(part, before[name]) for name, part in now.items()}
    return now + before
