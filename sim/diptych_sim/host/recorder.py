# SPDX-License-Identifier: BSD-2-Clause
"""Records a run for reports, into its run folder.

Everything sleeps until a counter or a register changes, so that recording costs little.
"""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from diptych.link.frames import SEQUENCE_BITS, FrameHead
from diptych.systolic.isa import HandoffKind
from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.events import report_event
from diptych_sim.host.fields import Fields
from diptych_sim.host.mesh_counters import MeshCounters
from diptych_sim.host.sample_files import MESH_SAMPLES, PANEL_SAMPLES
from diptych_sim.host.triggers import ClockCycles, ValueChange, at_end, start_soon

__all__ = ["PANEL_PERIOD", "SAMPLES_A_PERIOD", "MeshRecorder", "Recorder"]

PANEL_PERIOD = 64
"""Cycles between samples of the prefill panel, at first."""
SAMPLES_A_PERIOD = 256
"""After so many samples the period doubles."""
MESH_EVERY = 16
"""Samples of the panel for one of the mesh, while the prompt is read."""


def _cycles() -> int:
    """Return the cycles that what a trigger on a register sees has counted."""
    return current_cycle() + 1


def _write(file: BinaryIO, cycle: int, values: array[int]) -> None:
    file.write(array("I", [cycle]).tobytes() + values.tobytes())


def _content(file: BinaryIO) -> bytes:
    file.flush()
    return Path(file.name).read_bytes()


class MeshRecorder:
    """Writes samples of a mesh's counters, and reports operations of a tile.

    Parameters
    ----------
    mesh : MeshCounters
        The tiles' counters.
    pc : handle
        The program counter of the reference tile.
    folder : Path
        Where ``mesh.u32`` goes.
    plan : dict
        The plan of samples: a trace of a job.
    """

    def __init__(
        self,
        mesh: MeshCounters,
        pc: Any,
        folder: Path,
        plan: dict[str, Any],
    ) -> None:
        self._mesh = mesh
        self._file = (folder / MESH_SAMPLES).open("wb")
        at_end(self._file.close)
        self._joints = set(plan["joints"])
        self._firsts = [first for first, _, _ in plan["pieces"]]
        self._pc = pc
        self._detailed, self._sampled = set(plan["detailed"]), set(plan["sampled"])
        self._round = 0
        self._marks: list[tuple[int, int]] = []
        self._piece: int | None = None

    def start(self, panel: Sequence[str] = ()) -> None:
        """Begin; ``panel`` are names of counters that another recorder samples."""
        report_event(kind="trace", panel=list(panel), mesh=self._mesh.names)
        start_soon(self._watch_program())

    def state(self) -> list[Any]:
        """Return what :meth:`resume` takes."""
        return [self._round, self._marks, self._piece]

    def files(self) -> dict[str, bytes]:
        """Return what was written, by the name of the file."""
        return {MESH_SAMPLES: _content(self._file)}

    def resume(self, state: list[Any], files: Mapping[str, bytes]) -> None:
        """Begin where another was."""
        self._round, self._marks, self._piece = state
        self._file.write(files[MESH_SAMPLES])
        start_soon(self._watch_program())

    def sample(self, cycle: int) -> None:
        """Write what the counters are in this cycle."""
        _write(self._file, cycle, self._mesh.read())

    def round_ends(self, cycle: int, *, last: bool) -> None:
        """Note that a round is over, maybe the last one: at the cycle of an event ``token``."""
        number = self._round
        if last or number in self._sampled or number in self._detailed:
            self.sample(cycle)
        if self._marks:
            report_event(kind="operations", index=number, marks=self._marks)
        self._marks = []
        self._round = number + 1
        self._file.flush()

    async def _watch_program(self) -> None:
        """Note when the program of the reference tile goes from one operation to another."""
        pc = self._pc
        changes = ValueChange(pc)
        while True:
            await changes
            at = int(pc.value)
            now = bisect(self._firsts, at) - 1
            if now == self._piece or at in self._joints:
                continue
            self._piece = now
            cycle = _cycles()
            self._marks.append((cycle, now))
            if self._round in self._detailed:
                self.sample(cycle)


class Recorder:
    """Records the whole machine: the mesh, samples of the other counters, frames of the link.

    Parameters
    ----------
    dut : HierarchyObject
        The system.
    mesh : MeshRecorder
        Its mesh's.
    panel : mapping
        Handles of the other counters, by name.
    folder : Path
        Where ``panel.u32`` goes.
    """

    def __init__(
        self,
        dut: Any,
        mesh: MeshRecorder,
        panel: Mapping[str, Any],
        folder: Path,
    ) -> None:
        self._dut, self._mesh, self._panel = dut, mesh, panel
        self._file = (folder / PANEL_SAMPLES).open("wb")
        at_end(self._file.close)
        self._unpack = Fields(FrameHead()).unpack
        self._sampling: Any = None

    def state(self) -> list[Any]:
        """Return what :meth:`resume` takes, once the first tokens are out."""
        return self._mesh.state()

    def files(self) -> dict[str, bytes]:
        """Return what was written, by the name of the file."""
        return {PANEL_SAMPLES: _content(self._file), **self._mesh.files()}

    def resume(self, state: list[Any], files: Mapping[str, bytes]) -> None:
        """Begin where another was; panel and link have nothing more to do."""
        self._file.write(files[PANEL_SAMPLES])
        self._file.flush()
        self._mesh.resume(state, files)

    def start(self) -> None:
        """Begin, in the cycle in which the prefill program starts."""
        self._mesh.start(list(self._panel))
        link = self._dut.link
        self._sampling = start_soon(self._sample())
        start_soon(self._watch_sent(link.transmitter))
        for name, register in (
            ("queued", link.transmitter.filled),
            ("accepted", link.receiver.expected),
            ("delivered", link.receiver.oldest),
        ):
            start_soon(self._watch_frames(name, register))

    def round_ends(self, cycle: int, *, last: bool) -> None:
        """Note that a round is over, as of :meth:`MeshRecorder.round_ends`."""
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
            self._write(cycle)
            self._file.flush()
        self._mesh.round_ends(cycle, last=last)

    def _write(self, cycle: int) -> None:
        _write(self._file, cycle, array("I", [int(h.value) for h in self._panel.values()]))

    async def _sample(self) -> None:
        # The trigger sees what was before its edge.
        period, taken = PANEL_PERIOD, 0
        while True:
            cycle = current_cycle()
            self._write(cycle)
            if taken % MESH_EVERY == 0:
                self._mesh.sample(cycle)
            taken += 1
            if taken % SAMPLES_A_PERIOD == 0:
                period *= 2
            await ClockCycles(self._dut.clk, period)

    async def _watch_sent(self, transmitter: Any) -> None:
        changes = ValueChange(transmitter.count_link_framing)
        while True:
            await changes
            head = self._unpack(int(transmitter.now.value))
            named = ("sequence", "layer", "position", "prompt", "count")
            report_event(
                kind="frame_sent",
                cycle=_cycles(),
                what=HandoffKind(head["kind"]).name.lower(),
                **{name: head[name] for name in named},
            )

    async def _watch_frames(self, what: str, register: Any) -> None:
        """Report what has happened to how many frames."""
        changes = ValueChange(register)
        count, before = 0, int(register.value)
        while True:
            await changes
            now = int(register.value)
            count += (now - before) % 2**SEQUENCE_BITS
            before = now
            report_event(kind=f"frame_{what}", cycle=_cycles(), count=count)
