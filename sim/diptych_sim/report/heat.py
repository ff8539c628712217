# SPDX-License-Identifier: BSD-2-Clause
"""Frames of the mesh's heat maps: what each tile did in a stretch of time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from diptych.mesh.router import DIRECTIONS
from diptych_sim.account.decode_operations import decode_windows
from diptych_sim.trace import RunFolder

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
    other tokens.
    """
    rows, columns = run.start["mesh"]
    started = run.first("started")
    if started is None:
        return None
    spans = _spans(run)
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
    for title, start, end in spans:
        if start not in values or end not in values or start >= end:
            continue
        gained = dict(zip(names, (values[end] - values[start]).T, strict=True))
        links = np.stack([gained[way] for way in DIRECTIONS], axis=1)
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


def _spans(run: RunFolder) -> list[tuple[str, int, int]]:
    tokens = {event["index"]: event["cycle"] for event in run.all("token")}
    spans = []
    if len(tokens) > 1:
        last = max(tokens)
        if run.mesh is not None:
            known = set(run.mesh.cycles.tolist())
            last = max((index for index in tokens if tokens[index] in known), default=0)
        spans.append((f"Decode, tokens 1 to {last}", tokens[0], tokens[last]))
    if run.mesh is not None:
        limit = tokens.get(0, int(run.mesh.cycles[-1]) if len(run.mesh.cycles) else 0)
        times = [cycle for cycle in run.mesh.cycles.tolist() if cycle <= limit]
        step = -(-max(1, len(times) - 1) // LOADING_FRAMES)
        cuts = [*times[:-1:step], times[-1]] if times else []
        spans += [("Prefill: KV arrives", a, b) for a, b in pairwise(cuts)]
    windows = list(decode_windows(run))
    first = windows[0].token if windows else None
    for window in windows:
        if window.token == first:
            layer = "" if window.layer is None else f", layer {window.layer}"
            title = f"Token {window.token}{layer}: {window.operation}"
            spans.append((title, window.start, window.end))
    cuts = sorted(tokens)
    if run.mesh is not None:
        known = set(run.mesh.cycles.tolist())
        cuts = [index for index in cuts if tokens[index] in known]
    for a, b in pairwise(cuts):
        if b != first and first is not None:
            title = f"Token {b}" if b == a + 1 else f"Tokens {a + 1} to {b}"
            spans.append((title, tokens[a], tokens[b]))
    return spans
