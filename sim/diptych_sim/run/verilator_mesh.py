# SPDX-License-Identifier: BSD-2-Clause
"""Runs a job on the simulated mesh."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diptych_sim.engine.build import BuildOptions, Progress
from diptych_sim.engine.emit import Hardware, Source
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.host.public_signals import TILE_PUBLIC

__all__ = ["TOP", "run_job"]

TOP = "decode_panel"
"""Name of the mesh as a module."""


def run_job(
    design: Hardware | Sequence[Source],
    testbench: str,
    job: dict[str, Any],
    *,
    lanes: dict[str, int] | None = None,
    shared: tuple[str, ...] = ("tile",),
    waves: WavePlan | None,
    seed: int | None,
    progress: Progress | None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[list[dict[str, Any]], Run]:
    """Run ``diptych_sim.host.TESTBENCH`` with a job, and return the events that it reported.

    ``job`` becomes the JSON file ``$DIPTYCH_JOB``; ``shared`` components are compiled once. With
    ``lanes``, parameters of a :class:`.LaneMesh`, the mesh is one, and must be apart in the design.

    Raises
    ------
    BuildError, SimulationError, ToolError
        If a step fails, or the mesh hangs.
    """
    events: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job | {"lanes": lanes}))
        run = simulate(
            design,
            name=TOP,
            test_module=f"diptych_sim.host.{testbench}",
            env={"DIPTYCH_JOB": file},
            options=BuildOptions(outside="mesh") if lanes else BuildOptions(shared=shared),
            public=TILE_PUBLIC,
            waves=waves,
            seed=seed,
            progress=progress,
            on_event=listen,
        )
    return events, run
