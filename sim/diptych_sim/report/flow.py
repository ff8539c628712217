# SPDX-License-Identifier: BSD-2-Clause
"""Bytes by level as a flow picture: bands between memories and engines, as wide as their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flow_svg"]

WIDTH = 960
BOX = 108
WIDEST = 42.0
THINNEST = 1.5


def _band(x0: float, y0: float, x1: float, y1: float, wide: float, css: str) -> str:
    bend = (x0 + x1) / 2
    half = wide / 2
    return (
        f'<path class="band {css}" d="M{x0:.1f},{y0 - half:.1f}'
        f"C{bend:.1f},{y0 - half:.1f} {bend:.1f},{y1 - half:.1f} {x1:.1f},{y1 - half:.1f}"
        f"V{y1 + half:.1f}"
        f"C{bend:.1f},{y1 + half:.1f} {bend:.1f},{y0 + half:.1f} {x0:.1f},{y0 + half:.1f}Z"
        '"/>'
    )


def _text(x: float, y: float, text: str, css: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{text}</text>'


def short_bytes(count: int) -> str:
    """Return bytes with the unit that suits them, three digits; units are powers of 1000."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


class _Picture:
    def __init__(self) -> None:
        self.bands: list[str] = []
        self.boxes: list[str] = []

    def box(self, x: float, y: float, height: float, *lines: str) -> None:
        self.boxes.append(
            f'<rect class="box" x="{x}" y="{y}" width="{BOX}" height="{height}" rx="6"/>'
        )
        middle = y + height / 2 - 7.5 * (len(lines) - 1) + 4.5
        for index, line in enumerate(lines):
            css = "name" if index == 0 else "small"
            self.boxes.append(_text(x + BOX / 2, middle + 15 * index, line, css))

    def flow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        figure: tuple[str, str, int],
        scale: float,
        css: str,
    ) -> None:
        key, name, count = figure
        if not count:
            return
        wide = max(THINNEST, count * scale)
        self.bands.append(_band(*start, *end, wide, css))
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        self.boxes.append(_text(x, y - wide / 2 - 17, name, "small"))
        self.boxes.append(
            f'<text x="{x:.1f}" y="{y - wide / 2 - 4:.1f}" class="count" text-anchor="middle" '
            f'data-key="{key}" data-value="{count}">{short_bytes(count)}'
            f"<title>{name}: {count:,} bytes</title></text>"
        )


def flow_svg(result: Mapping[str, Any]) -> str:
    """Return the picture: above, what prefill and the link moved; below, what decode moved.

    Each panel has a scale of its own, as decode moves far more than prefill in a short run; its
    widest band is the same in both.
    """
    picture = _Picture()
    above = result["prefill"]["bytes"]
    scale = WIDEST / max(1, *(n for n in above.values() if n is not None))
    left, gap = 20.0, 164.0
    places = [left + index * (BOX + gap) for index in range(4)]
    top = 26.0

    def figure(part: str, level: str, name: str) -> tuple[str, str, int]:
        return f"{part}.bytes.{level}", name, result[part]["bytes"][level] or 0

    def across(index: int, y: float, part: str, level: str, name: str, css: str, by: float) -> None:
        start, end = (places[index] + BOX, y), (places[index + 1], y)
        picture.flow(start, end, figure(part, level, name), by, css)

    tall = 162.0
    picture.box(places[0], top, tall, "HBM")
    picture.box(places[1], top, tall, "Scratchpad", "and parameters")
    picture.box(places[2], top, tall, "Array,", "vector unit")
    picture.box(places[3], top, tall, "Accumulators")
    high, low = top + 62, top + 130
    across(0, high, "prefill", "hbm_read", "read", "read", scale)
    across(0, low, "prefill", "hbm_write", "written", "write", scale)
    across(1, high, "prefill", "scratchpad_read", "read", "read", scale)
    across(1, low, "prefill", "scratchpad_write", "written, loads included", "write", scale)
    across(2, high, "prefill", "accumulator_write", "written", "write", scale)
    across(2, low, "prefill", "accumulator_read", "read", "read", scale)
    return _finish(picture, result, places, top + tall, figure)


def _finish(
    picture: _Picture, result: Mapping[str, Any], places: Any, bottom: float, figure: Any
) -> str:
    y = bottom + 58
    height = 162.0
    picture.box(places[0], y, height, "KV link")
    picture.box(places[1], y, height, "Tile SRAM")
    picture.box(places[2], y, height, "Tiles")
    picture.box(places[3], y, height, "Fabric")
    down = result.get("decode")
    levels = [n for n in down["bytes"].values() if n] if down else []
    scale = WIDEST / max(1, *levels, 1)
    middle = y + height / 2 + 12
    link = figure("link", "link", "KV cache in frames")
    picture.flow((places[0] + BOX, middle), (places[1], middle), link, scale, "read")
    if down:
        high, low = y + 62, y + 130
        one = (places[1] + BOX, high), (places[2], high)
        picture.flow(*one, figure("decode", "sram_read", "read"), scale, "read")
        two = (places[1] + BOX, low), (places[2], low)
        picture.flow(*two, figure("decode", "sram_write", "written"), scale, "write")
        three = (places[2] + BOX, middle), (places[3], middle)
        picture.flow(*three, figure("decode", "fabric_hops", "bytes x hops"), scale, "write")
    start = places[2] + BOX / 2
    picture.bands.append(
        f'<path class="wire" d="M{start},{bottom} V{bottom + 26} H{places[0] + BOX / 2} V{y}"/>'
    )
    picture.boxes.append(
        _text(
            (start + places[0] + BOX / 2) / 2,
            bottom + 20,
            "keys and values, layer by layer",
            "small",
        )
    )
    body = "".join([*picture.bands, *picture.boxes])
    total = y + height + 10
    return (
        f'<svg class="flow" viewBox="0 0 {WIDTH} {total:.0f}" role="img" '
        f'aria-label="Bytes that each level of memory moved" style="max-width:{WIDTH}px">{body}</svg>'
    )
