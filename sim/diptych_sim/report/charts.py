# SPDX-License-Identifier: BSD-2-Clause
"""Charts of the HTML report, as SVG whose colors are the page's: they follow light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair
import vl_convert

from diptych_sim.report.causes import cause_color

__all__ = [
    "INK",
    "MUTED",
    "causes_chart",
    "draw",
    "lanes_chart",
    "page_svg",
    "share_chart",
    "tokens_chart",
]

# On a page that has these variables, pictures take its colors, light or dark.
INK, MUTED, GRID = "var(--ink, #222)", "var(--muted, #555)", "var(--grid, #ddd)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def page_svg(svg: str, name: str, label: str) -> str:
    """Return an SVG document as part of a page: as wide as its column, identifiers its own."""
    size = re.match(r"<svg[^>]*? width=\"([\d.]+)\" height=\"([\d.]+)\"", svg)
    assert size is not None
    svg = svg.replace(f' width="{size[1]}" height="{size[2]}"', "", 1)
    svg = re.sub(r"(id=\"|url\(#)(clip|gradient)", rf"\1{name}-\2", svg)
    # Every mark of Vega says what it is, at more than half of the size of the picture.
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg)
    label = label.replace("&", "&amp;").replace('"', "&quot;")
    return svg.replace(
        "<svg ", f'<svg role="img" aria-label="{label}" style="max-width:{size[1]}px" ', 1
    )


def draw(chart: Any) -> str:
    """Return a chart as an SVG document, in the style of all."""
    themed = (
        chart.configure(background="transparent", font=FONT)
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
            titlePadding=8,
        )
    )
    return vl_convert.vegalite_to_svg(themed.to_dict())


def _data(values: Sequence[Mapping[str, Any]]) -> Any:
    return altair.Data(values=list(values))


def _color(causes: Sequence[str]) -> Any:
    """Colors of causes; the page has the legend, in text that may wrap."""
    scale = altair.Scale(domain=list(causes), range=[cause_color(cause) for cause in causes])
    return altair.Color("cause:N", scale=scale, legend=None)


def causes_chart(
    bars: Iterable[tuple[str, Mapping[str, int]]], *, name: str, unit: str, width: int = 520
) -> str:
    """Return horizontal bars, each stacked by cause.

    Parameters
    ----------
    bars : iterable of (label, cycles by cause)
        From top to bottom.
    name, unit : str
        Of the picture, and of what it counts.
    """
    bars = list(bars)
    order = [label for label, _ in bars]
    causes = list(dict.fromkeys(cause for _, counts in bars for cause in counts))
    causes = [c for c in causes if any(counts.get(c) for _, counts in bars)]
    values = [
        {"bar": label, "cause": cause, "cycles": counts[cause], "at": causes.index(cause)}
        for label, counts in bars
        for cause in causes
        if counts.get(cause)
    ]
    chart = (
        altair.Chart(_data(values))
        .mark_bar(height={"band": 0.74})
        .encode(
            y=altair.Y(
                "bar:N", sort=order, title=None, axis=altair.Axis(ticks=False, labelLimit=190)
            ),
            x=altair.X(
                "cycles:Q",
                stack="zero",
                title=unit,
                axis=altair.Axis(labelExpr="format(datum.value, '~s')", tickCount=5),
            ),
            color=_color(causes),
            order=altair.Order("at:Q"),
        )
        .properties(width=width, height=max(60, 22 * len(order)))
    )
    return page_svg(draw(chart), name, f"{unit} by cause")


def share_chart(
    times: Sequence[int], shares: Mapping[str, Sequence[float]], *, name: str, width: int = 860
) -> str:
    """Return what part of the time went to each cause, over time.

    Parameters
    ----------
    times : sequence of int
        Ends of the windows, in cycles; the first window begins at 0.
    shares : mapping
        For each cause its part of each window.
    """
    causes = [cause for cause, parts in shares.items() if any(parts)]
    values = []
    begin = 0
    for index, end in enumerate(times):
        low = 0.0
        for cause in causes:
            part = shares[cause][index]
            if part > 0:
                values.append(
                    {"a": begin, "b": end, "low": low, "high": low + part, "cause": cause}
                )
            low += part
        begin = end
    chart = (
        altair.Chart(_data(values))
        .mark_rect()
        .encode(
            x=altair.X(
                "a:Q",
                title="cycles since the start",
                scale=altair.Scale(domain=[0, times[-1]], nice=False),
                axis=altair.Axis(format=",d", grid=False, tickCount=8),
            ),
            x2="b:Q",
            y=altair.Y(
                "low:Q",
                title="part of the cycles",
                scale=altair.Scale(domain=[0, 1]),
                axis=altair.Axis(format="%", tickCount=5),
            ),
            y2="high:Q",
            color=_color(causes),
        )
        .properties(width=width, height=170)
    )
    return page_svg(draw(chart), name, "What the array did over time")


def tokens_chart(
    tokens: Sequence[tuple[int, int]], *, name: str, word: str = "token", width: int = 860
) -> str:
    """Return the cycles of each token, or whatever the ``word`` says: its number and its cycles."""
    values = [{"token": index, "cycles": cycles} for index, cycles in tokens]
    chart = (
        altair.Chart(_data(values))
        .mark_bar(color="var(--c-work)", width={"band": 0.7})
        .encode(
            x=altair.X(
                "token:O",
                title=word,
                axis=altair.Axis(labelAngle=0, labelOverlap=True, ticks=False, grid=False),
            ),
            y=altair.Y("cycles:Q", title="cycles", axis=altair.Axis(format=",d", tickCount=4)),
        )
        .properties(width=width, height=130)
    )
    return page_svg(draw(chart), name, f"Cycles of each {word}")


def lanes_chart(
    lanes: Sequence[tuple[str, str, Sequence[tuple[int, int]]]],
    *,
    name: str,
    label: str,
    rules: Sequence[tuple[int, str]] = (),
    width: int = 800,
) -> str:
    """Return a timeline: a lane for each row, a bar for each span.

    Parameters
    ----------
    lanes : sequence of (lane, color, spans)
        ``spans``: start and end, in cycles.
    rules : sequence of (cycle, text)
        Vertical lines.
    """
    order = [lane for lane, _, _ in lanes]
    values = [
        {"lane": lane, "color": color, "a": start, "b": max(end, start + 1)}
        for lane, color, spans in lanes
        for start, end in spans
    ]
    last = max([v["b"] for v in values] + [cycle for cycle, _ in rules])
    x = altair.X(
        "a:Q",
        title="cycles since the start",
        scale=altair.Scale(domain=[0, last], nice=False),
        axis=altair.Axis(format=",d", tickCount=8),
    )
    bars = (
        altair.Chart(_data(values))
        .mark_bar(height={"band": 0.62}, strokeWidth=1)
        .encode(
            x=x,
            x2="b:Q",
            y=altair.Y(
                "lane:N", sort=order, title=None, axis=altair.Axis(ticks=False, labelLimit=190)
            ),
            color=altair.Color("color:N", scale=None),
            stroke=altair.Stroke("color:N", scale=None),
        )
    )
    layers = [bars]
    if rules:
        marks = [{"a": cycle, "text": text} for cycle, text in rules]
        layers.append(
            altair.Chart(_data(marks)).mark_rule(color=INK, strokeDash=[3, 3]).encode(x="a:Q")
        )
        layers.append(
            altair.Chart(_data(marks))
            .mark_text(align="right", dx=-5, y=-8, color=INK, fontSize=11)
            .encode(x="a:Q", text="text:N")
        )
    chart = altair.layer(*layers).properties(width=width, height=max(60, 20 * len(order)))
    return page_svg(draw(chart), name, label)
