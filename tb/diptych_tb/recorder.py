# SPDX-License-Identifier: BSD-2-Clause
"""Records a run of the whole machine for reports: :mod:`diptych_sim.trace` has the format.

Everything sleeps until a counter or a register changes, so that recording costs little.
"""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import cocotb
from cocotb.triggers import ClockCycles, ValueChange
from cocotb.utils import get_sim_time

from diptych.link.frames import SEQUENCE_BITS, FrameHead
from diptych.systolic.isa import HandoffKind
from diptych_tb.clocking import PERIOD_NS
from diptych_tb.events import report_event
from diptych_tb.fields import Fields
from diptych_tb.mesh.counters import MeshCounters

__all__ = ["PANEL_PERIOD", "PANEL_SAMPLES", "Recorder"]

PANEL_PERIOD = 64
"""Cycles between samples of the prefill panel, at first."""
PANEL_SAMPLES = 256
"""After so many samples the period doubles."""
MESH_EVERY = 16
"""Samples of the panel for one of the mesh, while the prompt is read."""


def _cycles() -> int:
    """Return the cycles that what a trigger on a register sees has counted."""
    return round(get_sim_time("ns")) // PERIOD_NS + 1


class Recorder:
    """Writes samples of counters, and reports frames of the link and operations of a tile.

    Parameters
    ----------
    dut : HierarchyObject
        The system.
    mesh : MeshCounters
        Its tiles' counters.
    panel : mapping
        Handles of the other counters, by name.
    folder : Path
        Where ``panel.u32`` and ``mesh.u32`` go.
    plan : dict
        As of :func:`diptych_sim.trace.trace_plan`.
    """

    def __init__(
        self,
        dut: Any,
        mesh: MeshCounters,
        panel: Mapping[str, Any],
        folder: Path,
        plan: dict[str, Any],
    ) -> None:
        self._dut, self._mesh, self._panel = dut, mesh, panel
        self._panel_file = (folder / "panel.u32").open("wb")
        self._mesh_file = (folder / "mesh.u32").open("wb")
        self._joints = set(plan["joints"])
        self._firsts = [first for first, _, _ in plan["pieces"]]
        self._core = mesh.bodies[plan["reference"]].core
        self._detailed, self._sampled = set(plan["detailed"]), set(plan["sampled"])
        self._unpack = Fields(FrameHead()).unpack
        self._token = 0
        self._marks: list[tuple[int, int]] = []
        self._sampling: Any = None

    def start(self) -> None:
        """Begin, in the cycle in which the prefill program starts."""
        report_event(kind="trace", panel=list(self._panel), mesh=self._mesh.names)
        link = self._dut.link
        self._sampling = cocotb.start_soon(self._sample_panel())
        cocotb.start_soon(self._watch_sent(link.transmitter))
        for name, register in (
            ("queued", link.transmitter.filled),
            ("accepted", link.receiver.expected),
            ("delivered", link.receiver.oldest),
        ):
            cocotb.start_soon(self._watch_frames(name, register))
        cocotb.start_soon(self._watch_program())

    def token(self, index: int, cycle: int) -> None:
        """Note that a token is out: at the cycle of the event ``token``."""
        if index == 0:
            self._sampling.cancel()
            self._write_panel(cycle)
        if index in self._sampled or index in self._detailed:
            self._write_mesh(cycle)
        if self._marks:
            report_event(kind="operations", index=index, marks=self._marks)
        self._marks = []
        self._token = index + 1
        for file in (self._panel_file, self._mesh_file):
            file.flush()

    def _write(self, file: BinaryIO, cycle: int, values: array[int]) -> None:
        file.write(array("I", [cycle]).tobytes() + values.tobytes())

    def _write_panel(self, cycle: int) -> None:
        values = array("I", [int(handle.value) for handle in self._panel.values()])
        self._write(self._panel_file, cycle, values)

    def _write_mesh(self, cycle: int) -> None:
        self._write(self._mesh_file, cycle, self._mesh.read())

    async def _sample_panel(self) -> None:
        # The trigger sees what was before its edge.
        period, taken = PANEL_PERIOD, 0
        while True:
            cycle = round(get_sim_time("ns")) // PERIOD_NS
            self._write_panel(cycle)
            if taken % MESH_EVERY == 0:
                self._write_mesh(cycle)
            taken += 1
            if taken % PANEL_SAMPLES == 0:
                period *= 2
            await ClockCycles(self._dut.clk, period)

    async def _watch_sent(self, transmitter: Any) -> None:
        changes = ValueChange(transmitter.count_link_framing)
        while True:
            await changes
            head = self._unpack(int(transmitter.now.value))
            report_event(
                kind="frame_sent",
                cycle=_cycles(),
                what=HandoffKind(head["kind"]).name.lower(),
                **{name: head[name] for name in ("sequence", "layer", "position", "count")},
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

    async def _watch_program(self) -> None:
        """Note when the program of the reference tile goes from one operation to another."""
        pc = self._core.watch_pc
        changes = ValueChange(pc)
        piece = None
        while True:
            await changes
            at = int(pc.value)
            now = bisect(self._firsts, at) - 1
            if now == piece or at in self._joints:
                continue
            piece = now
            cycle = _cycles()
            self._marks.append((cycle, now))
            if self._token in self._detailed:
                self._write_mesh(cycle)
