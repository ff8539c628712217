# SPDX-License-Identifier: BSD-2-Clause
"""A projection as an HTML document that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import altair

from diptych_sim.report.charts import INK, draw, page_svg
from diptych_sim.report.projection import border_rows, short_time
from diptych_sim.report.roofline import ACCENT, NEAR
from diptych_sim.report.templates import file_text, page_template

__all__ = ["projection_page"]


def projection_page(result: Mapping[str, Any]) -> str:
    """Return the page of a result of ``diptych project``."""
    return page_template("projection.html", time=short_time).render(
        result=result,
        style=file_text("report.css"),
        chips=(
            result["dtype"],
            f"batch {result['batch']}",
            f"{result['prompt_tokens']:,} tokens of a prompt",
            f"{result['tokens']:,} of an answer",
        ),
        scatter=_scatter(result),
        border=border_rows(result["border"] or ()),
    )


def _scatter(result: Mapping[str, Any]) -> str:
    """Return TTFT and tokens a second of each system, on logarithmic axes."""
    points = [
        {
            "name": row["system"],
            "ttft": row["ttft_ms"],
            "rate": row["tokens_per_second_user"],
            "filled": "var(--accent, #c2410c)" if row["calibrated"] else "transparent",
        }
        for row in result["systems"]
        if row["published"] and row["fits"]
    ]
    if not points:
        return ""
    data = altair.Data(values=points)
    texts = altair.Data(values=_gathered(points))
    scale = altair.Scale(type="log", nice=False, padding=24)
    x: Any = altair.X("ttft:Q", title="milliseconds to the first token", scale=scale)
    y: Any = altair.Y("rate:Q", title="tokens a second of a user", scale=scale)
    marks = altair.Chart(data).mark_point(size=60, stroke=ACCENT, strokeWidth=1.5)
    fill: Any = altair.Fill("filled:N", scale=None)
    names = altair.Chart(texts).mark_text(align="left", dx=8, dy=4, fontSize=11, color=INK)
    chart = altair.layer(marks.encode(x=x, y=y, fill=fill), names.encode(x=x, y=y, text="name:N"))
    svg = draw(chart.properties(width=720, height=360))
    return page_svg(svg, "systems", "Time to the first token and tokens a second of each system")


def _gathered(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return texts of points, one for all that lie on each other."""
    found: list[dict[str, Any]] = []
    for point in points:
        for other in found:
            if all(abs(log10(point[key] / other[key])) < NEAR for key in ("ttft", "rate")):
                other["name"] += f", {point['name']}"
                break
        else:
            found.append(dict(point))
    return found
