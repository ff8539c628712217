# SPDX-License-Identifier: BSD-2-Clause
"""Runs a job on the simulated prefill panel and its HBM, without the other panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diptych.config import MachineConfig
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.engine.build import Progress
from diptych_sim.engine.hbm_storage import HBM_VARIABLE
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.host.in_process import run_in_process
from diptych_sim.host.jobs import TESTBENCH, PanelJob, result_of, write_job
from diptych_sim.host.public_signals import PANEL_NAME, PANEL_PUBLIC

__all__ = ["PanelRun", "run_panel"]


@dataclass(frozen=True, kw_only=True)
class PanelRun:
    """A job that the panel has done.

    Attributes
    ----------
    result : object
        Its result, of the job's own type.
    hbm : bytes or None
        Contents of the HBM at the end; None if the job does not say.
    run : Run
        How long it took.
    """

    result: Any
    hbm: bytes | None
    run: Run


def run_panel(
    job: PanelJob,
    hbm: bytes | bytearray,
    machine: MachineConfig,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
    engine: Engine = DEFAULT_ENGINE,
) -> PanelRun:
    """Run a job on the panel of a machine, whose HBM begins with ``hbm``.

    Raises
    ------
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    events: list[dict[str, Any]] = []
    hardware = partial(
        PrefillWithHbm, *machine.array, **machine.array_parameters | {"hbm_bytes": None}
    )

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        on_event(event)

    with TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        (folder / job.hbm).write_bytes(hbm)
        shown: dict[str, Any] = {"seed": seed, "progress": progress, "on_event": listen}
        if engine == "lanes":
            run = run_in_process(hardware, PANEL_NAME, job, folder, public=PANEL_PUBLIC, **shown)
        else:
            run = simulate(
                hardware,
                name=PANEL_NAME,
                test_module=TESTBENCH,
                env={**write_job(job, folder), HBM_VARIABLE: folder / job.hbm},
                public=PANEL_PUBLIC,
                **shown,
            )
        written = folder / job.written
        after = written.read_bytes() if written.exists() else None
    return PanelRun(result=result_of(job, events), hbm=after, run=run)
