# SPDX-License-Identifier: BSD-2-Clause
"""The four quadrants and the border as one HTML document that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair

from diptych_sim.report.charts import INK, draw, page_svg
from diptych_sim.report.quadrants import (
    LETTERS,
    QUADRANTS,
    REQUESTS,
    border_grids,
    ratio_line,
    top_causes,
)
from diptych_sim.report.templates import file_text, page_template

__all__ = ["quadrants_page", "quadrants_svg"]

_COLORS = {"array": "#3b6fb6", "mesh": "#c2410c", "split": "#2f8f5b"}
_WORDS = {"array": "array alone", "mesh": "mesh alone", "split": "split"}


def quadrants_page(result: Mapping[str, Any]) -> str:
    """Return the page of a result of ``diptych quadrants``."""
    config = result["config"]
    golden = "equal to" if result["matches_golden"] else "DIFFERS from"
    return page_template("quadrants.html", causes=top_causes).render(
        result=result,
        style=file_text("report.css"),
        chips=(
            f"array {config['array']}",
            f"mesh {config['mesh']}",
            f"{config['array_macs']} MACs each",
            f"batch {config['batch']}",
            f"{config['prompt_tokens']} tokens of a prompt",
            f"{config['tokens']} of an answer",
            f"{golden} the golden model",
        ),
        quadrants=QUADRANTS,
        requests=REQUESTS,
        ratio=ratio_line(result),
        grids=border_grids(result["border"]),
        colors={LETTERS[way]: color for way, color in _COLORS.items()},
        picture=page_svg(quadrants_svg(result), "quadrants", "Cycles of requests by way"),
    )


def quadrants_svg(result: Mapping[str, Any]) -> str:
    """Return an SVG document: cycles of a request each way, by the length of its prompt.

    Lines are predicted, for one request with the link of the machine, a picture for each length of
    an answer; points are measured.
    """
    config = result["config"]
    same = {"batch": config["batch"], "link_bytes_per_cycle": config["link_bytes_per_cycle"]}

    def of(points: Any) -> list[dict[str, Any]]:
        return [
            {
                "prompt": point["prompt_tokens"],
                "answer": point["tokens"],
                "way": _WORDS[way],
                "cycles": cycles,
            }
            for point in points
            if all(point[name] == value for name, value in same.items())
            for way, cycles in point["cycles"].items()
            if cycles is not None
        ]

    measured = of(result["measured"])
    shown = {row["answer"] for row in measured}
    lines = [row for row in of(result["border"]) if row["answer"] in shown]
    scale = altair.Scale(type="log", nice=False, padding=10)
    color: Any = altair.Color(
        "way:N",
        scale=altair.Scale(domain=list(_WORDS.values()), range=[_COLORS[way] for way in _WORDS]),
        legend=altair.Legend(title=None, orient="top", labelColor=INK, labelFontSize=11),
    )
    x: Any = altair.X("prompt:Q", title="tokens of the prompt", scale=scale)
    y: Any = altair.Y("cycles:Q", title="cycles of the request", scale=scale)
    charts = []
    for answer in sorted(shown):
        line = altair.Chart(
            altair.Data(values=[row for row in lines if row["answer"] == answer])
        ).mark_line(strokeWidth=1.5)
        dots = altair.Chart(
            altair.Data(values=[row for row in measured if row["answer"] == answer])
        ).mark_point(size=60, filled=True, opacity=1)
        chart = altair.layer(line.encode(x=x, y=y, color=color), dots.encode(x=x, y=y, color=color))
        words = "1 token" if answer == 1 else f"{answer} tokens"
        charts.append(chart.properties(width=340, height=280, title=f"answer of {words}"))
    return draw(altair.hconcat(*charts))
