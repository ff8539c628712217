# SPDX-License-Identifier: BSD-2-Clause
"""Keeps a run whose mesh is on lanes in a simulator, so that it goes on after it was killed.

A checkpoint is taken while nothing but the mesh works. Around it all is then as after a reset, so
the mesh is all that a run needs to go on in a simulator that has just started; what the counters
around it held is added to what they count from then on.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from diptych_sim.cache.store import digest
from diptych_sim.engine.errors import CheckpointError, SimulationError
from diptych_sim.engine.lanes.checkpoint import Checkpoint, Keeper
from diptych_sim.engine.processes import end_with_parent
from diptych_sim.host.clocking import count_on
from diptych_sim.host.events import report_event, reported_events
from diptych_sim.host.lanes_cosim import LanesInside

__all__ = ["LOOK", "KeptRun", "kept_run", "total"]

LOOK = 64
"""Cycles from one look at whether only the mesh works to the next; two must find so."""


class KeptRun:
    """A run that is kept.

    Parameters
    ----------
    keeper : Keeper
        Of the mesh, reset.
    mesh : LanesInside
        The mesh.
    resume : bool
        Whether to go on from a checkpoint.

    Attributes
    ----------
    notes : Any
        What ``notes`` of :meth:`start` returned for the checkpoint; None for a new run.
    files : dict
        What ``files`` returned.
    """

    def __init__(self, keeper: Keeper, mesh: LanesInside, *, resume: bool) -> None:
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
        dut: Any,
        alone: Callable[[], bool],
        notes: Callable[[], Any],
        files: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Keep the run from now on, at times when ``alone`` says that only the mesh works."""
        cocotb.start_soon(self._run(dut.clk, alone, notes, files))

    async def _run(
        self,
        clk: Any,
        alone: Callable[[], bool],
        notes: Callable[[], Any],
        files: Callable[[], Mapping[str, bytes]],
    ) -> None:
        rested = False
        while True:
            await ClockCycles(clk, LOOK)
            before, rested = rested, False
            if self._keeper.left > 0:
                continue
            rested = alone() and self._mesh.at_rest()
            if before and rested:
                try:
                    self._keeper.keep([reported_events(), notes()], files())
                except SimulationError as error:
                    report_event(kind="failed", message=str(error))
                    raise


def kept_run(mesh: Any, job: dict[str, Any], *about: bytes) -> KeptRun | None:
    """Return a kept run, if the job asks for one; events before a checkpoint are reported again.

    ``job`` has ``checkpoint``: None, or a :meth:`.Checkpoint.job`. With ``about`` it says
    what the run is. The mesh must be reset, and the clock not yet running.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or is not of this run; it is reported, too.
    """
    asked = job["checkpoint"]
    if asked is None:
        return None
    # A run that was killed must not write on beside the one that resumes it.
    end_with_parent(signal.SIGKILL)
    place = Checkpoint(**asked | {"file": Path(asked["file"])})
    same = {name: value for name, value in job.items() if name not in ("checkpoint", "folder")}
    texts = [json.dumps(same, sort_keys=True), *(part.hex() for part in about)]
    try:
        return KeptRun(Keeper(place, mesh.mesh, [digest(texts)]), mesh, resume=place.resume)
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
