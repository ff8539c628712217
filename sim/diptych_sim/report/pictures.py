# SPDX-License-Identifier: BSD-2-Clause
"""The pictures of the HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from diptych.mesh.core import CAUSES as TILE_CAUSES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.report.charts import (
    causes_chart,
    lanes_chart,
    page_svg,
    share_chart,
    tokens_chart,
)
from diptych_sim.report.flow import flow_svg
from diptych_sim.report.frames import link_frames
from diptych_sim.report.operations import operation_rows
from diptych_sim.report.points import panel_points, roof_of
from diptych_sim.report.roofline import roofline_svg
from diptych_sim.run.folder import RunFolder

__all__ = ["recorded_pictures", "result_pictures"]

WINDOWS = 160
"""Windows of the picture of the array over time."""


def recorded_pictures(run: RunFolder) -> dict[str, str]:
    """Pictures that also a run that was cut off can have."""
    pictures = {}
    started = run.first("started")
    if started is None:
        return pictures
    ends = run.round_cycles
    if len(ends) > 2:
        word = "round" if len(run.start["prompt_ids"]) > 1 else "token"
        cycles = [(n, b - a) for n, (a, b) in enumerate(pairwise(ends), start=1)]
        pictures["tokens"] = tokens_chart(cycles, name="tokens", word=word)
    if run.panel is not None and len(run.panel.cycles) > 2:
        pictures["array"] = _array_picture(run, started["cycle"])
    if run.all("frame_sent"):
        pictures["link"] = _link_picture(run, started["cycle"])
    return pictures


def _array_picture(run: RunFolder, start: int) -> str:
    assert run.panel is not None
    panel = run.panel
    ended = run.first("prefill")
    within = panel.cycles <= (ended["cycle"] if ended else panel.cycles[-1])
    cuts = np.flatnonzero(within)
    cuts = cuts[np.unique(np.linspace(0, len(cuts) - 1, WINDOWS).round().astype(int))]
    cycles = panel.cycles[cuts]
    shares = {
        cause: (np.diff(panel.of(f"prefill.panel.matrix.{cause}")[cuts]) / np.diff(cycles)).tolist()
        for cause in MATRIX_CAUSES
    }
    return share_chart((cycles[1:] - start).tolist(), shares, name="array")


def _link_picture(run: RunFolder, start: int) -> str:
    """Prefill above, frames of each layer below: the hand-off's overlap."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for frame in link_frames(run):
        token = frame["what"] == "token"
        name = "first token" if token else f"layer {frame['layer']}, {frame['what']}"
        begin = (frame["queued"] or frame["cycle"]) - start
        end = (frame["delivered"] or frame["cycle"]) - start
        piece = spans.setdefault(name, [])
        if piece and begin <= piece[-1][1]:
            piece[-1] = (piece[-1][0], max(end, piece[-1][1]))
        else:
            piece.append((begin, end))
    ended = run.first("prefill")
    lanes: list[Any] = []
    rules = []
    if ended is not None:
        lanes.append(("prefill", "var(--c-work)", [(0, ended["cycle"] - start)]))
        rules.append((ended["cycle"] - start, "end of prefill"))
    for name, pieces in spans.items():
        color = "var(--c-wait)" if "keys" in name else "var(--c-drain)"
        lanes.append((name, "var(--c-block)" if name == "first token" else color, pieces))
    return lanes_chart(lanes, name="link", label="When KV frames crossed", rules=rules)


def _sum_by(rows: list[dict[str, Any]], panel: str, field: str) -> list[tuple[str, dict[str, int]]]:
    """Cycles by cause of a panel's operations, added by operation or by layer."""
    bars: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["panel"] != panel or not row["cycles_by_cause"]:
            continue
        key = row[field]
        if field == "layer":
            key = "outside of layers" if key is None else f"layer {key}"
        total = bars.setdefault(key, {})
        for cause, count in row["cycles_by_cause"].items():
            total[cause] = total.get(cause, 0) + count
    causes = dict.fromkeys((*MATRIX_CAUSES, *TILE_CAUSES))
    order = {name: index for index, name in enumerate(causes)}
    return [
        (key, dict(sorted(counts.items(), key=lambda item: order.get(item[0], 99))))
        for key, counts in bars.items()
    ]


def result_pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Pictures that need the result."""
    pictures = {"flow": flow_svg(result)}
    rows = operation_rows(result)
    for panel, unit in (("prefill", "cycles of the array"), ("decode", "tile cycles")):
        for field in ("operation", "layer"):
            bars = _sum_by(rows, panel, field)
            if bars:
                name = f"{panel}_{field}"
                pictures[name] = causes_chart(bars, name=name, unit=unit, width=340)
    if result["prefill"]:
        pictures["engines"] = causes_chart(
            list(result["prefill"]["cycles_by_engine"].items()),
            name="engines",
            unit="cycles",
            width=350,
        )
    for panel in ("prefill", "decode"):
        if result[panel]:
            name = f"{panel}_roofline"
            label = f"Roofline of the {panel} panel"
            svg = roofline_svg(
                panel_points(result, panel), roof_of(result, panel), numbered=True, size=(340, 230)
            )
            pictures[name] = page_svg(svg, name, label)
    return pictures
