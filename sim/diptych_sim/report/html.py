# SPDX-License-Identifier: BSD-2-Clause
"""The HTML report: one file, with all its pictures, that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from diptych.mesh.core import CAUSES as TILE_CAUSES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.report.causes import cause_color, in_words
from diptych_sim.report.findings import findings
from diptych_sim.report.heat import heat_frames
from diptych_sim.report.operations import operation_rows
from diptych_sim.report.pictures import recorded_pictures, result_pictures
from diptych_sim.report.points import panel_points, roof_of
from diptych_sim.report.summary import (
    LEVEL_NAMES,
    key_figures,
    panel_rows,
    text_of_number,
    time_text,
)
from diptych_sim.report.templates import file_text, page_template
from diptych_sim.run.folder import RunFolder

__all__ = ["html_report"]


def html_report(run: RunFolder) -> str:
    """Return the report of a run, complete or cut off, as an HTML document."""
    result = run.result
    pictures = recorded_pictures(run)
    if result is not None:
        pictures |= result_pictures(result)
    page = page_template(
        "report.html",
        number=text_of_number,
        words=in_words,
        color=cause_color,
        seconds=time_text,
        level=LEVEL_NAMES.__getitem__,
    )
    return page.render(
        run=run.start,
        config=run.start["config"],
        result=result,
        state=_state(run),
        figures=key_figures(result) if result else [],
        findings=findings(result) if result else [],
        panels=panel_rows(result) if result else [],
        operations=operation_rows(result) if result else [],
        sequences=_sequences(run),
        prompt_tokens=sum(map(len, run.start["prompt_ids"])),
        pictures=pictures,
        roofline={panel: _roofline(result, panel) for panel in ("prefill", "decode")},
        causes=_causes(result),
        heat=_embedded(heat_frames(run)),
        style=file_text("report.css"),
        script=file_text("report.js"),
    )


def _causes(result: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Return the causes that legends name: of the array, the tiles, and the other engines."""
    if result is None:
        return {"matrix": list(MATRIX_CAUSES), "tile": list(TILE_CAUSES), "other": []}

    def there(*parts: Mapping[str, int]) -> list[str]:
        return [
            c for c in dict.fromkeys(c for p in parts for c in p) if any(p.get(c) for p in parts)
        ]

    prefill, decode = result["prefill"] or {}, result["decode"] or {}
    return {
        "matrix": there(prefill.get("cycles_by_cause", {})),
        "tile": there(decode.get("cycles_by_cause", {})),
        "other": there(*prefill.get("cycles_by_engine", {}).values()),
    }


def _roofline(result: Mapping[str, Any] | None, panel: str) -> list[dict[str, Any]]:
    """Return the points of a panel's roofline, with what they could be at most."""
    if result is None or not result[panel]:
        return []
    roof = roof_of(result, panel)
    return [
        point._asdict() | {"roof": roof.at(point.intensity), "limit": roof.limit(point.intensity)}
        for point in panel_points(result, panel)
    ]


def _embedded(value: Any) -> str | None:
    """Return JSON that may stand inside a script element."""
    if value is None:
        return None
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _state(run: RunFolder) -> dict[str, Any]:
    """Say how far a run came."""
    tokens = run.all("token")
    last = run.events[-1]
    return {
        "partial": run.result is None,
        "tokens": len(tokens),
        "stage": "decode" if tokens else "prefill" if run.first("started") else "loading",
        "cycle": max([e["cycle"] for e in run.events if "cycle" in e], default=0),
        "seconds": last["wall"],
    }


def _sequences(run: RunFolder) -> list[dict[str, Any]]:
    """Return each sequence: its prompt, and its tokens with their texts and cycles."""
    started = run.first("started")
    stops = set(run.start.get("stop_ids", ()))
    found = [{"prompt": prompt, "tokens": []} for prompt in run.start["prompts"]]
    before = dict.fromkeys(range(len(found)), started["cycle"] if started else 0)
    stopped: set[int] = set()
    for event in run.all("token"):
        sequence = event["sequence"]
        if event["token"] in stops:
            stopped.add(sequence)
        found[sequence]["tokens"].append(
            {
                "index": len(found[sequence]["tokens"]),
                "token": event["token"],
                "text": "" if sequence in stopped else event.get("text", ""),
                "cycles": event["cycle"] - before[sequence],
            }
        )
        before[sequence] = event["cycle"]
    tokens = [token for sequence in found for token in sequence["tokens"]]
    decoded = [token["cycles"] for token in tokens if token["index"]]
    low, high = min(decoded, default=0), max(decoded, default=0)
    for token in tokens:
        part = (token["cycles"] - low) / (high - low) if high > low else 0.0
        token["shade"] = round(min(1.0, max(0.0, part)), 3) if token["index"] else 0.0
    return found
