# SPDX-License-Identifier: BSD-2-Clause
"""Roofline picture: measured points under the roofs of arithmetic and of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any, NamedTuple

import altair

from diptych_sim.report.charts import INK, MUTED, draw

__all__ = ["Point", "Roof", "roofline_svg"]

NEAR = 0.05
"""Decades within which texts of points would lie on each other."""
ACCENT = "var(--accent, #c2410c)"


class Point(NamedTuple):
    """Something measured: MACs for each byte that the memory moved, and for each cycle."""

    name: str
    intensity: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class Roof:
    """Peaks of a machine: MACs a cycle, and bytes a cycle of the memory that feeds them."""

    peak: float
    bandwidth: float
    memory: str = "HBM"

    def at(self, intensity: float) -> float:
        """Return the MACs a cycle that can be done at an intensity."""
        return min(self.peak, self.bandwidth * intensity)

    def limit(self, intensity: float) -> str:
        """Return which of the two roofs is lower at an intensity."""
        return "multipliers" if self.bandwidth * intensity >= self.peak else self.memory


def roofline_svg(
    points: Sequence[tuple[str, float, float]],
    roof: Roof,
    *,
    title: str = "",
    numbered: bool = False,
    size: tuple[int, int] = (560, 340),
) -> str:
    """Return an SVG document with each point under the roofs, on logarithmic axes.

    The roof bends at ``peak / bandwidth``.

    Parameters
    ----------
    points : sequence of Point
        What was measured.
    roof : Roof
        What could be.
    title : str
        What stands above the picture.
    numbered : bool
        Whether all points but the first are small and have their numbers, from 1, for names.
    size : tuple of int
        Width and height of the plot in pixels, without axes.

    Raises
    ------
    ValueError
        If there is no point, or a number is not above zero.
    """
    rows = [
        {"name": name, "intensity": float(i), "rate": float(r), "text": name}
        for name, i, r in points
    ]
    if not rows:
        raise ValueError("Roofline must have at least one point, not none")
    for what, value in (
        ("Peak", roof.peak),
        ("Bandwidth", roof.bandwidth),
        *((f"Intensity of {row['name']}", row["intensity"]) for row in rows),
        *((f"MACs a cycle of {row['name']}", row["rate"]) for row in rows),
    ):
        if not value > 0:
            raise ValueError(f"{what} must be above 0, not {value!r}")
    small = rows[1:] if numbered else []
    for number, row in enumerate(small, start=1):
        row["text"] = str(number)
    marks = _gathered(small)
    bend = roof.peak / roof.bandwidth
    lowest = min(bend / 8, *(row["intensity"] / 2 for row in rows))
    highest = max(bend * 8, *(row["intensity"] * 4 for row in rows))
    least = min(roof.bandwidth * lowest, *(row["rate"] / 2 for row in rows))
    left = max(lowest, least / roof.bandwidth)
    x: Any = altair.X(
        "intensity:Q",
        title=f"MACs for each byte of {roof.memory}",
        scale=altair.Scale(type="log", domain=[lowest, highest], nice=False),
    )
    y: Any = altair.Y(
        "rate:Q",
        title="MACs a cycle",
        scale=altair.Scale(type="log", domain=[least, 3 * roof.peak], nice=False),
    )

    def layer(values: list[dict[str, Any]]) -> Any:
        return altair.Chart(altair.Data(values=values))

    def texts(values: list[dict[str, Any]], **style: Any) -> Any:
        return layer(values).mark_text(align="left", **style).encode(x=x, y=y, text="text:N")

    line = [{"intensity": i, "rate": roof.at(i)} for i in (left, bend, highest)]
    flat = {"intensity": bend, "rate": roof.peak, "text": f"{roof.peak:,g} MACs a cycle"}
    slope = {
        "intensity": lowest,
        "rate": 3 * roof.peak,
        "text": f"slope: {roof.bandwidth:,g} bytes a cycle of {roof.memory}",
    }
    named = rows[:1] if numbered else rows
    chart = altair.layer(
        layer(line).mark_line(color=MUTED, strokeWidth=2).encode(x=x, y=y),
        texts([flat], dx=8, dy=-8, color=MUTED),
        texts([slope], dx=6, dy=9, color=MUTED),
        layer(small).mark_point(size=36, color=ACCENT, strokeWidth=1.5).encode(x=x, y=y),
        layer(named).mark_point(filled=True, size=50, color=ACCENT, opacity=0.9).encode(x=x, y=y),
        texts(marks, dx=5, dy=-5, fontSize=10, color=MUTED),
        texts(named, dx=7, dy=5, fontSize=11, color=INK),
    )
    return draw(chart.properties(width=size[0], height=size[1], title=title))


def _gathered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return points with one text for all that lie on each other."""
    found: list[dict[str, Any]] = []
    for row in rows:
        for other in found:
            if all(abs(log10(row[key] / other[key])) < NEAR for key in ("intensity", "rate")):
                other["text"] += f", {row['text']}"
                break
        else:
            found.append(dict(row))
    return found
