# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine in a simulator: prefill, KV link and decode."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from diptych.link.layout import Setting

from .axi_checker import AxiReadChecker, AxiWriteChecker
from .clocking import current_cycle
from .command_recorder import CommandRecorder
from .decode import mesh_recorder
from .events import report_event
from .jobs import GenerateJob, Inspected
from .observers.machine import SystemObservers
from .recorder import Recorder
from .resumable import LOOK, total
from .simulator_host import SimulatorHost
from .streams import StreamDriver
from .triggers import RisingEdge, catch_up, random_seed, start_soon, start_watching
from .windows import TransferCounter, Windows
from .workloads import TokenReporter, decode_tokens

__all__ = ["generate"]

_PARTS = (
    "prefill.panel.scratchpad",
    "prefill.panel.accumulators",
    "prefill.hbm",
    "prefill.panel",
    "prefill.panel.matrix",
    "prefill.panel.vector",
    "prefill.panel.load",
    "prefill.panel.store",
    "prefill.panel.queues",
    "link",
    "link.transmitter",
)
"""Blocks with counters, besides the mesh."""


async def generate(dut: Any, job: GenerateJob, folder: Path) -> Inspected:
    """Report each token with its cycle, and counters, as :class:`.TokenReporter` says."""
    host = SimulatorHost(dut, job, shell=dut.decode.mesh, rows="rows")
    ports = _Ports(dut, job)
    await host.reset()
    run = host.run
    before = run.notes if run is not None else None
    host.watchdog.start()
    if before is None:
        await ports.load(host)
    windows = Windows(dut, host.mesh, size=job.mesh, weight_rows=job.weight_rows)
    observers = SystemObservers(
        dut,
        array=job.array,
        weight_rows=job.weight_rows,
        mesh_rows=job.mesh[0],
        link_latency=job.link_latency,
        settings=dict(job.settings),
    )
    measured = _Measured(dut, windows, observers, before and before["measured"])
    axi = (AxiReadChecker(dut.prefill.hbm, "axi"), AxiWriteChecker(dut.prefill.hbm, "axi"))
    if job.damage:
        start_soon(_damage(dut, job.damage))
    recorder = None
    if job.trace:
        mesh = mesh_recorder(host, job)
        recorder = Recorder(dut, mesh, measured.handles(), Path(str(job.folder)))
    out = _Reporter(dut, host, job, measured, recorder)
    if before is None:
        commands = CommandRecorder(dut.prefill.panel, job.layers)
        observers.start()
        await ports.start()
        report_event(kind="started", cycle=current_cycle())
        host.mark_start()
        if recorder is not None:
            recorder.start()
        out.prefill = start_soon(_prefill_end(dut, commands, observers))
        out.watching = start_watching(windows.watch_prefill())
    else:
        out.resume(before["tokens"])
        if run is not None and recorder is not None:
            recorder.resume(before["recorder"], run.files)
    if run is not None:
        run.start(
            dut.clk,
            lambda: out.quiet() and not dut.link_busy.value,
            lambda: {
                "tokens": out.state(),
                "measured": measured.read(),
                "recorder": recorder and recorder.state(),
            },
            lambda: recorder.files() if recorder is not None else {},
        )
    inspected = await decode_tokens(host, job, out)
    if out.prefill is not None:
        await out.prefill
    if before is None:
        await observers.check()
    for checker in axi:
        checker.check_finished()
    return inspected


async def _damage(dut: Any, probability: float) -> None:
    rng = random.Random(random_seed())
    edge = RisingEdge(dut.clk)
    while True:
        dut.damage.value = 1 << rng.randrange(32) if rng.random() < probability else 0
        await edge


async def _prefill_end(dut: Any, commands: CommandRecorder, observers: SystemObservers) -> None:
    await RisingEdge(dut.finished)
    report_event(kind="prefill", cycle=current_cycle())
    await RisingEdge(dut.clk)  # the recorder sees the last command in the same cycle
    catch_up()
    report_event(kind="commands", cycles=commands.cycles, entered=commands.entered)
    await observers.end_panel()


class _Ports:
    """Loads and starts the machine."""

    def __init__(self, dut: Any, job: GenerateJob) -> None:
        self._dut, self._job = dut, job
        dut.hbm__valid.value = 0
        dut.hbm__payload.value = 0
        self._settings = StreamDriver(dut, "settings", Setting())
        dut.start.value = 0
        dut.damage.value = 0
        dut.program.value = job.program

    async def load(self, host: SimulatorHost) -> None:
        """Fill the tiles and the link's settings; what the HBM has is there."""
        host.feed(self._job.load)
        await self._settings.send({"address": a, "data": d} for a, d in self._job.settings)
        await host.finish_sending()

    async def start(self) -> None:
        """Start the prefill program."""
        self._dut.start.value = 1
        await RisingEdge(self._dut.clk)
        self._dut.start.value = 0


class _Measured:
    """Counts around the mesh: of monitors, windows, observers, and the hardware's counters.

    ``before`` is what :meth:`read` returned in the run that this one resumes, or None.
    """

    def __init__(
        self,
        dut: Any,
        windows: Windows,
        observers: SystemObservers,
        before: dict[str, Any] | None,
    ) -> None:
        port = dut.prefill.hbm
        self.windows, self._before = windows, before
        self._observers = observers
        self._parts = {part: _counters(dut, part) for part in _PARTS}
        self._monitors = {
            "hbm_beats": TransferCounter(dut, port.axi__r__valid, port.axi__r__ready),
            "hbm_written_beats": TransferCounter(dut, port.axi__w__valid, port.axi__w__ready),
            "link_words": TransferCounter(dut, dut.link_word),
        }

    def handles(self) -> dict[str, Any]:
        """Return handles of the hardware's counters."""
        return {
            f"{part}.{name}": handle
            for part, names in self._parts.items()
            for name, handle in names.items()
        }

    def read(self) -> dict[str, Any]:
        """Return all counts, as the event ``counters`` has them."""
        catch_up()
        now = {
            "monitors": {name: monitor.count for name, monitor in self._monitors.items()},
            "windows": self.windows.count,
            "observed": self._observers.counts(),
            "parts": {
                part: {name: int(handle.value) for name, handle in names.items()}
                for part, names in self._parts.items()
            },
        }
        return total(now, self._before)


def _counters(dut: Any, part: str) -> dict[str, Any]:
    """Return handles of the counters of a part of the machine."""
    for name in part.split("."):
        dut = dut[name]
    return {
        item._name.removeprefix("count_"): item
        for item in sorted(dut, key=lambda item: item._name)
        if item._name.startswith("count_") and not item._name.endswith("_now")
    }


class _Reporter(TokenReporter):
    """Tells the recorder of tokens, and lets windows follow them."""

    def __init__(
        self,
        dut: Any,
        host: SimulatorHost,
        job: GenerateJob,
        measured: _Measured,
        recorder: Recorder | None,
    ) -> None:
        super().__init__(host, job, report_event)
        self._dut, self._system = dut, host
        self.prefill: Any = None
        self.watching: Any = None
        self._measured, self._recorder = measured, recorder

    def __call__(self, sequence: int, token: int, cycle: int) -> None:
        super().__call__(sequence, token, cycle)
        if self.count == self.sequences and not self.over:
            self._system.handed_off()
        if not self.over:
            self.watching = start_soon(self._measured.windows.watch_tile())

    def reported(self, index: int, cycle: int, *, ends: bool) -> None:
        if self.watching is not None:
            self.watching.cancel()
        if self._recorder is not None and ends:
            self._recorder.round_ends(cycle, last=self.over)

    async def handoff_over(self) -> None:
        while self._dut.link_busy.value:
            await RisingEdge(self._dut.clk)
        await super().handoff_over()

    def other_counters(self) -> dict[str, Any]:
        return self._measured.read()

    def quiet(self) -> bool:
        """Return whether only mesh and link may work."""
        return (
            self.count >= self.sequences
            and (self.prefill is None or self.prefill.done())
            and (self.watching is None or self.watching.done())
            and current_cycle() - self.last > LOOK
        )
