# SPDX-License-Identifier: BSD-2-Clause
"""The HTML report: one file, with all its pictures, that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from diptych.mesh.core import CAUSES as TILE_CAUSES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.report.causes import cause_color, in_words
from diptych_sim.report.charts import (
    causes_chart,
    lanes_chart,
    page_svg,
    share_chart,
    tokens_chart,
)
from diptych_sim.report.findings import findings
from diptych_sim.report.flow import flow_svg
from diptych_sim.report.heat import heat_frames
from diptych_sim.report.operations import operation_rows
from diptych_sim.report.roofline import roofline_svg
from diptych_sim.report.summary import (
    key_figures,
    panel_rows,
    text_of_number,
    time_text,
)
from diptych_sim.trace import RunFolder

__all__ = ["html_report"]

WINDOWS = 160
"""Windows of the picture of the array over time."""
TILE_MACS = 8
TILE_READ_BYTES = 16
"""MACs, and bytes that its SRAM can read, of a tile in a cycle."""


def html_report(run: RunFolder) -> str:
    """Return the report of a run, complete or cut off, as an HTML document."""
    result = run.result
    pictures = _recorded_pictures(run)
    if result is not None:
        pictures |= _result_pictures(result)
    rows = operation_rows(result) if result else []
    page = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page.filters |= {
        "number": text_of_number,
        "words": in_words,
        "color": cause_color,
        "seconds": time_text,
    }
    return page.get_template("report.html").render(
        run=run.start,
        config=run.start["config"],
        result=result,
        state=_state(run),
        figures=key_figures(result) if result else [],
        findings=findings(result) if result else [],
        panels=panel_rows(result) if result else [],
        operations=rows,
        tokens=_tokens(run),
        prompt_tokens=len(run.start["prompt_ids"]),
        pictures=pictures,
        roofline=_decode_points(result["decode"], rows) if result and result["decode"] else [],
        causes=_causes(result),
        heat=_embedded(heat_frames(run)),
        style=_file("report.css"),
        script=_file("report.js"),
    )


def _causes(result: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Return the causes that legends name: of the array, the tiles, and the other engines."""
    if result is None:
        return {"matrix": list(MATRIX_CAUSES), "tile": list(TILE_CAUSES), "other": []}

    def there(*parts: Mapping[str, int]) -> list[str]:
        return [
            c for c in dict.fromkeys(c for p in parts for c in p) if any(p.get(c) for p in parts)
        ]

    decode = result["decode"] or {"cycles_by_cause": {}}
    return {
        "matrix": there(result["prefill"]["cycles_by_cause"]),
        "tile": there(decode["cycles_by_cause"]),
        "other": there(*result["prefill"]["cycles_by_engine"].values()),
    }


def _file(name: str) -> str:
    return resources.files("diptych_sim.report").joinpath(name).read_text(encoding="utf-8")


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


def _tokens(run: RunFolder) -> list[dict[str, Any]]:
    """Return each token with its text and the cycles that it took."""
    started = run.first("started")
    before = started["cycle"] if started else 0
    stops = set(run.start.get("stop_ids", ()))
    found = []
    stopped = False
    for event in run.all("token"):
        stopped = stopped or event["token"] in stops
        found.append(
            {
                "index": event["index"],
                "token": event["token"],
                "text": "" if stopped else event.get("text", ""),
                "cycles": event["cycle"] - before,
            }
        )
        before = event["cycle"]
    decoded = [token["cycles"] for token in found[1:]]
    low, high = min(decoded, default=0), max(decoded, default=0)
    for token in found:
        part = (token["cycles"] - low) / (high - low) if high > low else 0.0
        token["shade"] = round(min(1.0, max(0.0, part)), 3) if token["index"] else 0.0
    return found


def _recorded_pictures(run: RunFolder) -> dict[str, str]:
    """Pictures that also a run that was cut off can have."""
    pictures = {}
    started = run.first("started")
    if started is None:
        return pictures
    tokens = _tokens(run)
    if len(tokens) > 2:
        pairs = [(token["index"], token["cycles"]) for token in tokens[1:]]
        pictures["tokens"] = tokens_chart(pairs, name="tokens")
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
    sent = run.all("frame_sent")
    delivered = {event["count"]: event["cycle"] for event in run.all("frame_delivered")}
    queued = {event["count"]: event["cycle"] for event in run.all("frame_queued")}
    spans: dict[str, list[tuple[int, int]]] = {}
    seen: set[int] = set()
    number = 0
    for event in sent:
        if event["sequence"] in seen:
            continue  # sent again: the span of a frame ends when it is delivered
        seen = {*seen, event["sequence"]} if len(seen) < 128 else {event["sequence"]}
        number += 1
        name = (
            "first token"
            if event["what"] == "token"
            else f"layer {event['layer']}, {event['what']}"
        )
        begin = queued.get(number, event["cycle"]) - start
        end = delivered.get(number, event["cycle"]) - start
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


def _result_pictures(result: Mapping[str, Any]) -> dict[str, str]:
    pictures = {"flow": flow_svg(result)}
    prefill, decode = result["prefill"], result.get("decode")
    rows = operation_rows(result)
    for panel, unit in (("prefill", "cycles of the array"), ("decode", "tile cycles")):
        for field in ("operation", "layer"):
            bars = _sum_by(rows, panel, field)
            if bars:
                name = f"{panel}_{field}"
                pictures[name] = causes_chart(bars, name=name, unit=unit, width=340)
    engines = prefill.get("cycles_by_engine")
    if engines:
        pictures["engines"] = causes_chart(
            list(engines.items()), name="engines", unit="cycles", width=350
        )
    array, config = [int(side) for side in result["config"]["array"].split("x")], result["config"]
    read = prefill["bytes"]["hbm_read"]
    points = [("prefill", prefill["macs"] / read, prefill["macs"] / prefill["cycles"])]
    pictures["prefill_roofline"] = page_svg(
        roofline_svg(
            points,
            peak=array[0] * array[1],
            bandwidth=config["hbm_bytes_per_cycle"],
            title="",
            width=340,
            height=230,
        ),
        "prefill_roofline",
        "Roofline of the prefill panel",
    )
    if decode:
        pictures["decode_roofline"] = _decode_roofline(result, _decode_points(decode, rows))
    return pictures


def _decode_points(decode: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    """Points of decode's roofline: name, MACs a byte of SRAM, MACs a cycle; the whole first."""
    parts: dict[str, list[int]] = {
        "decode": [decode["macs"], decode["bytes"]["sram_read"], decode["cycles"]]
    }
    for row in rows:
        if row["panel"] == "decode" and row["macs"]:
            total = parts.setdefault(row["operation"], [0, 0, 0])
            for index, count in enumerate((row["macs"], row["bytes"]["sram_read"], row["cycles"])):
                total[index] += count
    return [(name, macs / read, macs / cycles) for name, (macs, read, cycles) in parts.items()]


def _decode_roofline(result: Mapping[str, Any], points: list[Any]) -> str:
    sides = [int(side) for side in result["config"]["mesh"].split("x")]
    tiles = sides[0] * sides[1]
    svg = roofline_svg(
        points[:1],
        others=points[1:],
        peak=tiles * TILE_MACS,
        bandwidth=tiles * TILE_READ_BYTES,
        memory="tile SRAM",
        title="",
        width=340,
        height=230,
    )
    return page_svg(svg, "decode_roofline", "Roofline of the decode panel")
