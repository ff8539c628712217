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
        figure: _Figure,
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


_Figure = tuple[str, str, int]
HEIGHT = 162.0
LEFT, GAP, TOP, BETWEEN = 20.0, 164.0, 26.0, 58.0
PLACES = [LEFT + index * (BOX + GAP) for index in range(4)]
HIGH, LOW, MIDDLE = 62.0, 130.0, 93.0
"""Where in a row bands are: two, or one."""


class _Row:
    """A row of the picture: boxes of a part, and bands between them."""

    def __init__(self, picture: _Picture, result: Mapping[str, Any], parts: str, y: float) -> None:
        self.picture, self.result, self.y = picture, result, y
        levels = [n for part in parts.split() for n in result[part]["bytes"].values() if n]
        self.scale = WIDEST / max(1, *levels, 1)

    def box(self, place: int, *lines: str) -> None:
        self.picture.box(PLACES[place], self.y, HEIGHT, *lines)

    def band(self, place: int, at: float, key: str, name: str, css: str) -> None:
        """Draw what ``key`` counts ("prefill.hbm_read") between a box and the next one."""
        part, level = key.split(".")
        count = self.result[part]["bytes"][level] or 0
        ends = (PLACES[place] + BOX, self.y + at), (PLACES[place + 1], self.y + at)
        figure = (f"{part}.bytes.{level}", name, count)
        self.picture.flow(*ends, figure, self.scale, css)


def flow_svg(result: Mapping[str, Any]) -> str:
    """Return the picture: above, what prefill moved; below, what the link and decode moved.

    Each row has a scale of its own, as decode moves far more than prefill in a short run; its
    widest band is the same in both. A row of what did not run is left out.
    """
    picture = _Picture()
    bottom = TOP
    if result["prefill"]:
        row = _Row(picture, result, "prefill", TOP)
        row.box(0, "HBM")
        row.box(1, "Scratchpad", "and parameters")
        row.box(2, "Array,", "vector unit")
        row.box(3, "Accumulators")
        row.band(0, HIGH, "prefill.hbm_read", "read", "read")
        row.band(0, LOW, "prefill.hbm_write", "written", "write")
        row.band(1, HIGH, "prefill.scratchpad_read", "read", "read")
        row.band(1, LOW, "prefill.scratchpad_write", "written, loads included", "write")
        row.band(2, HIGH, "prefill.accumulator_write", "written", "write")
        row.band(2, LOW, "prefill.accumulator_read", "read", "read")
        bottom = TOP + HEIGHT + BETWEEN
    parts = " ".join(part for part in ("link", "decode") if result[part])
    if result["decode"]:
        parts = "decode"  # its scale is also the link's
    row = _Row(picture, result, parts, bottom)
    if result["link"]:
        row.box(0, "KV link")
        row.band(0, MIDDLE, "link.link", "KV cache in frames", "read")
        _wire(picture, TOP + HEIGHT, bottom)
    row.box(1, "Tile SRAM")
    if result["decode"]:
        row.box(2, "Tiles")
        row.box(3, "Fabric")
        row.band(1, HIGH, "decode.sram_read", "read", "read")
        row.band(1, LOW, "decode.sram_write", "written", "write")
        row.band(2, MIDDLE, "decode.fabric_hops", "bytes x hops", "write")
    body = "".join([*picture.bands, *picture.boxes])
    total = bottom + HEIGHT + 10
    return (
        f'<svg class="flow" viewBox="0 0 {WIDTH} {total:.0f}" role="img" '
        f'aria-label="Bytes that each level of memory moved" style="max-width:{WIDTH}px">{body}</svg>'
    )


def _wire(picture: _Picture, top: float, bottom: float) -> None:
    """Lead from the array to the link below it."""
    start, end = PLACES[2] + BOX / 2, PLACES[0] + BOX / 2
    bend = top + 26
    picture.bands.append(f'<path class="wire" d="M{start},{top} V{bend} H{end} V{bottom}"/>')
    words = "keys and values, layer by layer"
    picture.boxes.append(_text((start + end) / 2, bend - 6, words, "small"))
