# SPDX-License-Identifier: BSD-2-Clause
"""The Pareto picture of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair

from diptych_sim.report.charts import INK, MUTED, draw
from diptych_sim.report.roofline import ACCENT

__all__ = ["pareto_svg"]

_SHOWN = 3000
"""Points in the picture, at most, beside the front."""


def pareto_svg(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    metric: str,
    measured: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return an SVG document: multipliers and a metric of every design, and the front as a line.

    Of very many points every n-th is drawn; the front is whole. Points that were ``measured`` in
    RTL, as of :func:`.measure_rows`, are crosses, if the metric was.
    """
    stride = -(-len(rows) // _SHOWN)

    def values(chosen: Sequence[Mapping[str, Any]]) -> Any:
        names = ("array", "mesh", "multipliers", metric)
        return altair.Data(values=[{name: row[name] for name in names} for row in chosen])

    scale = altair.Scale(type="log", nice=False, padding=12)
    x: Any = altair.X("multipliers:Q", title="multipliers of array and mesh", scale=scale)
    y: Any = altair.Y(f"{metric}:Q", title=metric.replace("_", " "), scale=scale)
    cloud = altair.Chart(values(rows[::stride])).mark_point(size=10, color=MUTED, opacity=0.35)
    line = altair.Chart(values(front)).mark_line(
        color=ACCENT, strokeWidth=1.5, interpolate="step-after"
    )
    dots = altair.Chart(values(front)).mark_point(size=40, color=ACCENT, filled=True)
    texts = (
        altair.Chart(values(front))
        .transform_calculate(text="datum.array + ', ' + datum.mesh")
        .mark_text(align="left", dx=6, dy=-6, fontSize=10, color=INK)
    )
    sizes = {(row["array"], row["mesh"]): row["multipliers"] for row in rows}
    crosses = [
        {"multipliers": sizes[row["array"], row["mesh"]], metric: row[metric]["measured"]}
        for row in measured
        if row.get(metric) and row[metric]["measured"] is not None
    ]
    rtl = altair.Chart(altair.Data(values=crosses)).mark_point(
        shape="cross", angle=45, size=70, color=INK, filled=True
    )
    chart = altair.layer(
        cloud.encode(x=x, y=y),
        line.encode(x=x, y=y),
        dots.encode(x=x, y=y),
        texts.encode(x=x, y=y, text="text:N"),
        *([rtl.encode(x=x, y=y)] if crosses else []),
    )
    title = "Array and mesh; no design beats those of the line in both"
    title += "; crosses: in RTL" if crosses else ""
    return draw(chart.properties(width=720, height=420, title=title))
