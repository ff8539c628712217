# SPDX-License-Identifier: BSD-2-Clause
"""Runs jobs of a mesh: in Verilator, or on lanes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diptych.mesh.panel import DecodePanel
from diptych_sim.engine.build import BuildOptions, Progress
from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run, default_seed, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.host.in_process import run_in_process
from diptych_sim.host.jobs import (
    TESTBENCH,
    CollectiveJob,
    DecodeJob,
    KernelJob,
    MeshJob,
    result_of,
    write_job,
)
from diptych_sim.host.lanes_host import LanesHost, completed
from diptych_sim.host.public_signals import TILE_PUBLIC
from diptych_sim.host.workloads import (
    TokenReporter,
    collective,
    decode_tokens,
    kernel,
    load_decode,
)

__all__ = ["LanesMesh", "MeshBackend", "OnEvent", "VerilatorMesh", "mesh_backend", "mesh_options"]

OnEvent = Callable[[dict[str, Any]], None]
"""Takes each event of a run, while it runs."""


class MeshBackend(ABC):
    """An engine that runs jobs of a mesh; each gives the same results and events."""

    @abstractmethod
    def run(self, job: MeshJob, on_event: OnEvent | None = None) -> tuple[Any, Run]:
        """Run a job, and return its result (:attr:`.MeshJob.result`) and how long it took.

        Raises
        ------
        CheckpointError
            If a checkpoint to resume cannot be read, or is not of this run.
        HangError
            If the mesh hangs.
        BuildError, SimulationError, ToolError
            If a step fails.
        """


@dataclass(frozen=True, kw_only=True)
class VerilatorMesh(MeshBackend):
    """A decode panel on what records: Verilator, or for a mesh on lanes without waves, words.

    Attributes
    ----------
    cosimulated : bool
        Whether the mesh in it runs on lanes.
    inlined : bool
        Whether each tile is compiled by itself.
    waves, seed, progress
        As of :func:`.simulate`.
    """

    cosimulated: bool = False
    inlined: bool = False
    waves: WavePlan | None = None
    seed: int | None = None
    progress: Progress | None = None

    def run(self, job: MeshJob, on_event: OnEvent | None = None) -> tuple[Any, Run]:
        job = replace(job, cosimulated=self.cosimulated)
        if job.checkpoint is not None:
            job = replace(job, checkpoint=job.checkpoint.absolute())
        events: list[dict[str, Any]] = []

        def listen(event: dict[str, Any]) -> None:
            events.append(event)
            if on_event is not None and event["kind"] != "result":
                on_event(event)

        with TemporaryDirectory(prefix="diptych-") as folder:
            hardware = partial(
                DecodePanel, *job.mesh, **job.parameters, mesh_as_blackbox=self.cosimulated
            )
            shown: dict[str, Any] = {
                "public": TILE_PUBLIC,
                "seed": self.seed,
                "progress": self.progress,
                "on_event": listen,
            }
            if self.cosimulated and self.waves is None:
                name = "decode_panel"
                run = run_in_process(hardware, name, job, Path(folder), outside="mesh", **shown)
            else:
                run = simulate(
                    hardware,
                    name="decode_panel",
                    test_module=TESTBENCH,
                    env=write_job(job, Path(folder)),
                    options=BuildOptions() if self.inlined else mesh_options(self.cosimulated),
                    waves=self.waves,
                    **shown,
                )
        return result_of(job, events), run


def mesh_options(cosimulated: bool) -> BuildOptions:
    """Return how a design with a mesh is built: without it, or with tiles compiled once."""
    return BuildOptions(blackbox="mesh") if cosimulated else BuildOptions(shared=("tile",))


@dataclass(frozen=True, kw_only=True)
class LanesMesh(MeshBackend):
    """A mesh on lanes, on all processes that ``mpirun`` has started.

    Attributes
    ----------
    progress : Progress, optional
        Is called at steps of the build.
    """

    progress: Progress | None = None

    def run(self, job: MeshJob, on_event: OnEvent | None = None) -> tuple[Any, Run]:
        def report(**event: Any) -> None:
            if on_event is not None:
                on_event(event)

        async def workload(host: LanesHost) -> Any:
            match job:
                case KernelJob():
                    return await kernel(host, job)
                case CollectiveJob():
                    return await collective(host, job)
                case DecodeJob():
                    out = TokenReporter(host, job, report)
                    await load_decode(host, job, out, report)
                    return await decode_tokens(host, job, out)
            raise TypeError(f"Lanes run jobs of the mesh alone, not {type(job).__name__}")

        with open_mesh(*job.mesh, progress=self.progress, **job.parameters) as mesh:
            started = time.perf_counter()
            result = completed(workload(LanesHost(mesh, job)))
            seconds = time.perf_counter() - started
        return result, Run(
            folder=Path(), tests=1, seed=default_seed(), seconds=seconds, cached=True
        )


def mesh_backend(
    engine: Engine,
    *,
    sampled: bool = False,
    waves: WavePlan | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> MeshBackend:
    """Return what runs a mesh with an engine.

    Waves are recorded in Verilator, which then runs everything but the mesh for lanes; words do that
    when counters are ``sampled`` over time.
    """
    if engine == "lanes" and waves is None and not sampled:
        return LanesMesh(progress=progress)
    return VerilatorMesh(cosimulated=engine == "lanes", waves=waves, seed=seed, progress=progress)
