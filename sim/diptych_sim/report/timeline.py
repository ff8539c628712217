# SPDX-License-Identifier: BSD-2-Clause
"""The timeline of a run, for Perfetto: what every engine, queue, link and row of tiles did, when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.mesh.core import CAUSES
from diptych_sim.account.decode_operations import decode_windows
from diptych_sim.report.frames import link_frames
from diptych_sim.report.perfetto_trace import PerfettoTrace
from diptych_sim.run.folder import RunFolder, Samples

__all__ = ["write_timeline"]

ENGINES = ("load", "matrix", "vector", "store")
USED_IN = {"keys": "scores", "values": "contexts", "token": "embedding"}
"""The operation of decode that first reads what a frame of the link carries."""
RATES = {
    "computing": ("array: rows", "rows/cycle"),
    "hbm_read": ("HBM reads", "bytes/cycle"),
    "hbm_write": ("HBM writes", "bytes/cycle"),
}


def write_timeline(run: RunFolder, path: Path) -> None:
    """Write the timeline of a run, complete or cut off.

    A nanosecond of it is a cycle, counted from the start of the prefill program. Slices have the
    engine as their category and the operation as their name; their arguments are ``layer``, and
    what the report says of them: ``macs``, ``bytes``, cycles by cause. Arrows lead from a frame of
    the KV link that is sent, over its way into the mesh, to the operation that first uses it.

    A matrix command's slice is the time of the array that belongs to it: since the last row of the
    command before. Rows of tiles have a slice from sample to sample, in tile cycles by cause.
    """
    trace = PerfettoTrace()
    start = run.first("started")
    if start is not None:
        writer = _Timeline(trace, run, start["cycle"])
        writer.run_track()
        writer.prefill_tracks()
        writer.link_tracks()
        writer.decode_tracks()
    trace.write(path)


def _about(item: Mapping[str, Any]) -> dict[str, int | str]:
    about: dict[str, int | str] = {"layer": -1 if item["layer"] is None else item["layer"]}
    for name in ("macs", "op"):
        if name in item:
            about[name] = item[name]
    moved = item.get("bytes")
    if moved is not None:
        about |= moved if isinstance(moved, Mapping) else {"bytes": moved}
    return about | item.get("cycles_by_cause", {})


class _Lanes:
    """Tracks of one name, so many that nothing overlaps."""

    def __init__(self, trace: PerfettoTrace, name: str, parent: int) -> None:
        self._trace, self._name, self._parent = trace, name, parent
        self._free: list[tuple[int, int]] = [(trace.track(name, parent), 0)]

    def at(self, start: int, end: int) -> int:
        for index, (track, free) in enumerate(self._free):
            if free <= start:
                self._free[index] = (track, end)
                return track
        track = self._trace.track(self._name, self._parent)
        self._free.append((track, end))
        return track


class _Timeline:
    def __init__(self, trace: PerfettoTrace, run: RunFolder, start: int) -> None:
        self.trace, self.run, self.start = trace, run, start
        self.frames = link_frames(run)

    def run_track(self) -> None:
        """Show each token, from the one before of its sequence until it is out."""
        group = self.trace.track("run")
        several = len(self.run.start["prompt_ids"]) > 1
        tracks: dict[int, int] = {}
        before: dict[int, int] = {}
        for event in self.run.all("token"):
            sequence = event["sequence"]
            if sequence not in tracks:
                name = f"tokens of sequence {sequence}" if several else "tokens"
                tracks[sequence] = self.trace.track(name, group)
            begin, end = before.get(sequence, 0), event["cycle"] - self.start
            before[sequence] = end
            if begin < end:  # the first token of decode alone was there before
                about = {name: event[name] for name in ("index", "token", "sequence")}
                text = event.get("text") or str(event["token"])
                self.trace.slice(tracks[sequence], begin, end, text, "token", about=about)

    def prefill_tracks(self) -> None:
        """Show engines, queues and rates of the prefill panel."""
        group = self.trace.track("prefill panel")
        result = self.run.result or {}
        operations: Sequence[Mapping[str, Any]] = (result.get("prefill") or {}).get(
            "operations"
        ) or ()
        for engine in ENGINES:
            lanes = _Lanes(self.trace, engine, group)
            queue = self.trace.track(f"queue of {engine}", group)
            cycle = head = 0
            for item in operations:
                if item["engine"] != engine:
                    continue
                begin, end = item["start"], item["end"]
                if "cycles" in item:
                    begin, end = cycle, cycle + item["cycles"]
                    cycle = end
                if end > begin:
                    track = lanes.at(begin, end)
                    self.trace.slice(
                        track, begin, end, item["operation"] or "other", engine, about=_about(item)
                    )
                if item["start"] > head:
                    # It was at the head of its queue since the command before was taken.
                    self.trace.slice(
                        queue, head, item["start"], item["operation"] or "other", "queue"
                    )
                head = max(head, item["start"])
        panel = self.run.panel
        if panel is not None:
            self._rates(panel, group)

    def _rates(self, panel: Samples, group: int) -> None:
        steps = np.diff(panel.cycles)
        for name in panel.names:
            part, _, counter = name.rpartition(".")
            if counter not in RATES or (counter == "computing" and not part.endswith("matrix")):
                continue
            title, unit = RATES[counter]
            track = self.trace.track(title, group, unit=unit)
            for cycle, gained, step in zip(
                panel.cycles[:-1], np.diff(panel.of(name)), steps, strict=True
            ):
                if step:
                    self.trace.count(track, int(cycle) - self.start, float(gained / step))

    def link_tracks(self) -> None:
        """Show each frame on the wires, and on its way into the mesh."""
        group = self.trace.track("KV link")
        wires = _Lanes(self.trace, "frames sent", group)
        way = _Lanes(self.trace, "frames into the mesh", group)
        for frame in self.frames:
            about = {name: frame[name] for name in ("layer", "position", "prompt")}
            about["words"] = frame["count"]
            flow = [frame["number"]]
            for lanes, begin, end in (
                (wires, frame["cycle"], frame["accepted"]),
                (way, frame["accepted"], frame["delivered"]),
            ):
                if begin is None or end is None or end <= begin:
                    continue
                first, last = begin - self.start, end - self.start
                track = lanes.at(first, last)
                self.trace.slice(
                    track, first, last, frame["what"], "link", about=about, starts=flow
                )

    def decode_tracks(self) -> None:
        """Show operations of the reference tile, and what rows of tiles did."""
        group = self.trace.track("decode panel")
        track = self.trace.track("operations", group)
        plan = self.run.start["plan"]
        names: dict[int, str] = {}
        waiting = list(self.frames)
        for window in decode_windows(self.run):
            layer = -1 if window.layer is None else window.layer
            used = [
                frame
                for frame in waiting
                if USED_IN.get(frame["what"]) == window.operation
                and (frame["what"] == "token" or frame["layer"] == layer)
            ]
            waiting = [frame for frame in waiting if frame not in used]
            names[window.start] = window.operation
            about = {"layer": layer, "round": window.round}
            about["recorded"] = int(window.round in plan["detailed"])
            self.trace.slice(
                track,
                window.start - self.start,
                window.end - self.start,
                window.operation,
                "tiles",
                about=about,
                ends=[frame["number"] for frame in used],
            )
        if self.run.mesh is not None:
            self._rows(self.run.mesh, group, names)

    def _rows(self, mesh: Samples, group: int, names: Mapping[int, str]) -> None:
        rows, columns = self.run.start["mesh"]
        gained = (
            np.diff(mesh.values, axis=0).reshape(-1, rows, columns, len(mesh.names)).sum(axis=2)
        )
        for row in range(rows):
            track = self.trace.track(f"row {row}", group)
            busy = self.trace.track(f"row {row} computing", group, unit="%")
            computing = mesh.names.index("computing")
            for index, (begin, end) in enumerate(
                zip(mesh.cycles[:-1], mesh.cycles[1:], strict=True)
            ):
                if end <= begin:
                    continue
                counts = dict(zip(mesh.names, map(int, gained[index, row]), strict=True))
                about = {name: n for name, n in counts.items() if n or name in CAUSES}
                first = int(begin) - self.start
                name = names.get(int(begin), "tiles")
                self.trace.slice(track, first, int(end) - self.start, name, "row", about=about)
                share = 100 * gained[index, row, computing] / ((end - begin) * columns)
                self.trace.count(busy, first, float(share))
