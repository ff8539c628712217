# SPDX-License-Identifier: BSD-2-Clause
"""Decode alone, in a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .clocking import current_cycle
from .events import report_event
from .jobs import DecodeJob, Inspected
from .recorder import MeshRecorder
from .resumable import LOOK
from .simulator_host import SimulatorHost
from .workloads import TokenReporter, decode_tokens, load_decode

__all__ = ["decode", "mesh_recorder"]


class _Reporter(TokenReporter):
    """Tells the recorder of tokens, too."""

    recorder: MeshRecorder | None = None

    def reported(self, index: int, cycle: int, *, ends: bool) -> None:
        if self.recorder is not None and ends:
            self.recorder.round_ends(cycle, last=self.over)


def mesh_recorder(host: SimulatorHost, job: Any) -> MeshRecorder:
    """Return a recorder of the mesh as the job's trace asks for."""
    pc = host.register_of(job.trace["reference"], "watch_pc")
    return MeshRecorder(host.tiles, pc, Path(job.folder), job.trace)


async def decode(dut: Any, job: DecodeJob, _folder: Path) -> Inspected:
    """Report each token, its sequence and its cycle, as :mod:`.workloads` says."""
    host = SimulatorHost(dut, job, shell=dut.mesh)
    await host.reset()
    host.mark_start()
    host.watchdog.start()
    out = _Reporter(host, job, report_event)
    recorder = out.recorder = mesh_recorder(host, job) if job.trace else None
    run = host.run
    if run is None or run.notes is None:
        if recorder is not None:
            recorder.start()
        await load_decode(host, job, out, report_event)
    else:
        out.resume(run.notes["tokens"])
        if recorder is not None:
            recorder.resume(run.notes["recorder"], run.files)
    if run is not None:
        run.start(
            dut.clk,
            lambda: current_cycle() - out.last > LOOK,
            lambda: {"tokens": out.state(), "recorder": recorder and recorder.state()},
            lambda: recorder.files() if recorder is not None else {},
        )
    return await decode_tokens(host, job, out)
