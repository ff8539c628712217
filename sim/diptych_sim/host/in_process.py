# SPDX-License-Identifier: BSD-2-Clause
"""Runs jobs on hardware of words, in this process."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych_sim.engine.compile_jobs import Progress
from diptych_sim.engine.emit import Hardware
from diptych_sim.engine.errors import EngineError, SimulationError, ToolError
from diptych_sim.engine.processes import processes
from diptych_sim.engine.simulate import STOPS, Run, default_seed
from diptych_sim.engine.words.build import compile_words
from diptych_sim.engine.words.machine import WordMachine

from .clocking import count_on
from .events import listening
from .jobs import TESTBENCH
from .scheduler import Scheduler
from .testbench import do_job
from .word_handles import WordEngine, scheduler_of

__all__ = ["run_in_process"]


class _Ordered:
    """Hands events on in the order of their moments."""

    def __init__(self, scheduler: Scheduler, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._scheduler, self._on_event = scheduler, on_event
        self._waiting: list[tuple[tuple[int, int], dict[str, Any]]] = []
        scheduler.on_caught_up = self._hand_on

    def __call__(self, event: dict[str, Any]) -> None:
        if self._scheduler.on_its_own:
            self._waiting.append(((self._scheduler.now, self._scheduler.upcoming), event))
        else:
            self._scheduler.catch_up()
            self._on_event(event)

    def _hand_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, event in sorted(waiting, key=lambda each: each[0]):
            self._on_event(event)


def _seed_of_test(seed: int) -> int:
    """Return the seed that cocotb gives the testbench, so that draws are the same."""
    name = f"{TESTBENCH}.does_the_job"
    return seed + int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16)


def run_in_process(
    hardware: Hardware,
    name: str,
    job: Any,
    folder: Path,
    *,
    public: tuple[tuple[str, str], ...],
    outside: str | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None],
) -> Run:
    """Do a job as the testbench of a simulator does it.

    Parameters
    ----------
    hardware : Hardware
        The hardware.
    name : str
        Its name.
    job : object
        The job; its files are in ``folder``, and the HBM, if there is one, has ``job.hbm``.
    folder : Path
        Its folder.
    public : tuple of (str, str)
        Signals that the host looks at, as of :func:`.compile_words`.
    outside : str, optional
        Module that the host has computed by something else: a mesh on lanes.
    seed, progress, on_event
        As of :func:`.simulate`.

    Raises
    ------
    CheckpointError, HangError
        As of :func:`.simulate`.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    if processes() > 1:
        raise ToolError(
            "Several processes require --engine lanes and a command that runs the mesh alone"
        )
    compiled = compile_words(hardware, name, public, outside=outside, progress=progress)
    chosen = default_seed() if seed is None else seed
    started = time.perf_counter()
    count_on(0)  # another run of this process may have gone on from a checkpoint
    hbm = folder / job.hbm if hasattr(job, "hbm") else None
    stops: list[EngineError] = []

    def listen(reported: dict[str, Any]) -> None:
        event = json.loads(json.dumps(reported))  # as it comes from a simulator
        if (stop := STOPS.get(event["kind"])) is not None:
            stops.append(stop(event["message"]))
        on_event(event)

    with WordMachine(compiled, hbm) as machine, WordEngine(machine) as engine:
        scheduler, dut = scheduler_of(engine, _seed_of_test(chosen))
        try:
            with listening(_Ordered(scheduler, listen)):
                scheduler.run(do_job(dut, job, folder))
        except (AssertionError, EngineError) as error:
            if stops:
                raise stops[0] from error
            if isinstance(error, EngineError):
                raise
            message = f"Running {name} in this process with seed {chosen} failed: {error}"
            raise SimulationError(message) from error
    seconds = time.perf_counter() - started
    return Run(folder=Path(), tests=1, seed=chosen, seconds=seconds, cached=True)
