# SPDX-License-Identifier: BSD-2-Clause
"""Roofline picture: measured points under the roofs of arithmetic and of memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair
import vl_convert

__all__ = ["roofline_svg"]

# On a page that has these variables, the picture takes its colors, light or dark.
INK, MUTED, GRID = "var(--ink, #222)", "var(--muted, #555)", "var(--grid, #ddd)"
FONT = "system-ui, 'DejaVu Sans', sans-serif"


def roofline_svg(
    points: Iterable[tuple[str, float, float]],
    *,
    peak: float,
    bandwidth: float,
    title: str = "Roofline",
    memory: str = "HBM",
    others: Iterable[tuple[str, float, float]] = (),
    width: int = 560,
    height: int = 340,
) -> str:
    """Return an SVG document with each point under the roofs, on logarithmic axes.

    The roof is ``min(peak, bandwidth * intensity)``; it bends at ``peak / bandwidth``.

    Parameters
    ----------
    points : iterable of (name, intensity, macs_per_cycle)
        What was measured: multiplications for each byte that the memory moved, and for each cycle.
    peak : float
        MACs a cycle that the multipliers can do.
    bandwidth : float
        Bytes a cycle that the memory can move.
    others : iterable of (name, intensity, macs_per_cycle)
        Smaller points without a name in the picture, as parts of the first.
    title, memory : str
        What stands above the picture, and what the bytes move through.
    width, height : int
        Pixels of the plot, without axes.

    Raises
    ------
    ValueError
        If there is no point, or a number is not above zero.
    """
    named = [{"name": n, "intensity": float(i), "rate": float(r)} for n, i, r in points]
    small = [{"name": n, "intensity": float(i), "rate": float(r)} for n, i, r in others]
    rows = named + small
    if not named:
        raise ValueError("Roofline must have at least one point, not none")
    for what, value in (
        ("Peak", peak),
        ("Bandwidth", bandwidth),
        *((f"Intensity of {row['name']}", row["intensity"]) for row in rows),
        *((f"MACs a cycle of {row['name']}", row["rate"]) for row in rows),
    ):
        if not value > 0:
            raise ValueError(f"{what} must be above 0, not {value!r}")
    bend = peak / bandwidth
    lowest = min(bend / 8, *(row["intensity"] / 2 for row in rows))
    highest = max(bend * 8, *(row["intensity"] * 4 for row in rows))
    least = min(bandwidth * lowest, *(row["rate"] / 2 for row in rows))
    x: Any = altair.X(
        "intensity:Q",
        title=f"MACs for each byte of {memory}",
        scale=altair.Scale(type="log", domain=[lowest, highest], nice=False),
    )
    y: Any = altair.Y(
        "rate:Q",
        title="MACs a cycle",
        scale=altair.Scale(type="log", domain=[least, 2 * peak], nice=False),
    )

    def data(values: list[dict[str, Any]]) -> Any:
        return altair.Data(values=values)

    roof = [
        {"intensity": i, "rate": min(peak, bandwidth * i)}
        for i in (max(lowest, least / bandwidth), bend, highest)
    ]
    names = [
        {"intensity": bend, "rate": peak, "name": f"{peak:,g} MACs a cycle"},
        {
            "intensity": max(lowest, least / bandwidth) * 1.15,
            "rate": max(lowest, least / bandwidth) * bandwidth,
            "name": f"{bandwidth:,g} bytes a cycle of {memory}",
        },
    ]
    tooltip: Any = ["name:N", "intensity:Q", "rate:Q"]
    layers = altair.layer(
        altair.Chart(data(roof))
        .mark_line(color="var(--muted, #777)", strokeWidth=2)
        .encode(x=x, y=y),
        altair.Chart(data(names[:1]))
        .mark_text(align="left", dx=8, dy=-8, color="var(--muted, #555)")
        .encode(x=x, y=y, text="name:N"),
        altair.Chart(data(names[1:]))
        .mark_text(align="left", dx=10, dy=8, color="var(--muted, #555)")
        .encode(x=x, y=y, text="name:N"),
        altair.Chart(data(small))
        .mark_point(size=36, color="var(--accent, #c2410c)", strokeWidth=1.5)
        .encode(x=x, y=y, tooltip=tooltip),
        altair.Chart(data(named))
        .mark_point(filled=True, size=50, color="var(--accent, #c2410c)", opacity=0.9)
        .encode(x=x, y=y, tooltip=tooltip),
        altair.Chart(data(named))
        .mark_text(align="left", dx=7, dy=5, fontSize=11, color=INK)
        .encode(x=x, y=y, text="name:N"),
    ).properties(width=width, height=height, title=title)
    layers = (
        layers.configure(background="transparent", font=FONT)
        .configure_view(stroke=None)
        .configure_title(color=INK)
        .configure_axis(
            labelColor=MUTED,
            titleColor=MUTED,
            gridColor=GRID,
            domainColor=GRID,
            tickColor=GRID,
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="normal",
        )
    )
    return vl_convert.vegalite_to_svg(layers.to_dict())
