# SPDX-License-Identifier: BSD-2-Clause
"""Frames of the mesh's heat maps: what each tile did in a stretch of time."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

import numpy as np

from diptych.mesh.fabric import DIRECTION_NAMES
from diptych_sim.account.decode_operations import decode_windows
from diptych_sim.run.folder import RunFolder

__all__ = ["FRAMES_OF_TILES", "METRICS", "heat_frames"]

METRICS = ("macs", "sram", "links", "stalls")
STALLS = ("bank_conflict", "backpressure", "waiting_receive", "draining")
FRAMES_OF_TILES = 40_000
"""Tiles in all frames at most, so that the page stays small."""
LOADING_FRAMES = 12


def heat_frames(run: RunFolder) -> dict[str, Any] | None:
    """Return the frames of a run, or None if it never came to the mesh.

    ``frames``: each has ``title``, ``start`` and ``end`` (cycles since the start of the run) and for
    each tile, row by row: ``macs``, ``sram`` (bytes read and written), ``stalls`` (cycles) and
    ``links`` (wavelets to north, east, south, west, one after the other). The first frame is all of
    decode; then the mesh while it is loaded, the operations of the first decoded token, and the
    other tokens (of several sequences, rounds).
    """
    rows, columns = run.start["mesh"]
    started = run.first("started")
    if started is None:
        return None
    values: dict[int, Any] = {}
    names: tuple[str, ...] = ()
    if run.mesh is not None:
        names = run.mesh.names
        values = dict(zip(run.mesh.cycles.tolist(), run.mesh.values, strict=True))
    for event in run.all("counters"):  # without a trace, these two are all there is
        names = names or tuple(event["tiles"][0])
        values[event["cycle"]] = np.array(
            [[tile[name] for name in names] for tile in event["tiles"]]
        )
    frames = []
    limit = max(4, FRAMES_OF_TILES // (rows * columns))
    for title, start, end in _spans(run, values):
        if start not in values or end not in values or start >= end:
            continue
        gained = dict(zip(names, (values[end] - values[start]).T, strict=True))
        links = np.stack([gained[way] for way in DIRECTION_NAMES], axis=1)
        frames.append(
            {
                "title": title,
                "start": start - started["cycle"],
                "end": end - started["cycle"],
                "macs": gained["macs"].tolist(),
                "sram": (gained["sram_read"] + gained["sram_write"]).tolist(),
                "stalls": np.sum([gained[name] for name in STALLS], axis=0).tolist(),
                "links": links.reshape(-1).tolist(),
            }
        )
        if len(frames) == limit:
            break
    return {"rows": rows, "columns": columns, "frames": frames} if frames else None


def _spans(run: RunFolder, known: Collection[int]) -> list[tuple[str, int, int]]:
    """Return title, start and end of the frames; at both, counters are ``known``."""
    ends = run.round_cycles
    word = "Round" if len(run.start["prompt_ids"]) > 1 else "Token"
    cuts = [number for number, cycle in enumerate(ends) if cycle in known]
    spans = []
    if len(cuts) > 1 and cuts[0] == 0:
        spans.append((f"Decode, {word.lower()}s 1 to {cuts[-1]}", ends[0], ends[cuts[-1]]))
    windows = list(decode_windows(run))
    if run.mesh is not None and run.start["array"] is not None:
        limit = ends[0] if ends else max(run.mesh.cycles.tolist(), default=0)
        times = [cycle for cycle in run.mesh.cycles.tolist() if cycle <= limit]
        step = -(-max(1, len(times) - 1) // LOADING_FRAMES)
        edges = [*times[:-1:step], times[-1]] if times else []
        spans += [("Prefill: KV arrives", a, b) for a, b in pairwise(edges)]
    first = windows[0].round if windows else None
    for window in windows:
        if window.round == first:
            layer = "" if window.layer is None else f", layer {window.layer}"
            title = f"{word} {window.round}{layer}: {window.operation}"
            spans.append((title, window.start, window.end))
    for a, b in pairwise(cuts):
        if b != first and first is not None:
            title = f"{word} {b}" if b == a + 1 else f"{word}s {a + 1} to {b}"
            spans.append((title, ends[a], ends[b]))
    return spans
