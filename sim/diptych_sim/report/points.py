# SPDX-License-Identifier: BSD-2-Clause
"""Where a panel and its parts stand in the roofline: what each computed for each byte it moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.config import TILE_MACS
from diptych_sim.report.roofline import Point, Roof

__all__ = ["panel_points", "roof_of"]

TILE_READ_BYTES = 16
"""Bytes that the SRAM of a tile can read in a cycle."""


def roof_of(result: Mapping[str, Any], panel: str) -> Roof:
    """Return what the multipliers of a panel and the memory that feeds them can do in a cycle."""
    config = result["config"]
    if panel == "prefill":
        rows, columns = (int(side) for side in config["array"].split("x"))
        return Roof(peak=rows * columns, bandwidth=config["hbm_bytes_per_cycle"], memory="HBM")
    rows, columns = (int(side) for side in config["mesh"].split("x"))
    tiles = rows * columns
    return Roof(peak=tiles * TILE_MACS, bandwidth=tiles * TILE_READ_BYTES, memory="tile SRAM")


def panel_points(result: Mapping[str, Any], panel: str) -> list[Point]:
    """Return the point of a panel, and those of its parts: layers of prefill, operations of decode.

    What is loaded from HBM belongs to the layer that needs it, so that only whole layers have an
    intensity. Parts without multiplications are left out.
    """
    part = result[panel]
    memory = "hbm_read" if panel == "prefill" else "sram_read"
    parts = _layers(part) if panel == "prefill" else _operations(part)
    counts = [(panel, part["macs"], part["bytes"][memory], part["cycles"]), *parts]
    return [
        Point(name, macs / moved, macs / cycles)
        for name, macs, moved, cycles in counts
        if macs and moved and cycles
    ]


_Counts = tuple[str, int, int, int]


def _layers(prefill: Mapping[str, Any]) -> Iterator[_Counts]:
    moved: dict[int | None, int] = {}
    for item in prefill["operations"]:
        if item["engine"] == "load":
            moved[item["layer"]] = moved.get(item["layer"], 0) + item["bytes"]
    for layer in prefill["layers"]:
        number = layer["layer"]
        name = "best token" if number is None else f"layer {number}"
        yield name, layer["macs"], moved.get(number, 0), layer["cycles"]


def _operations(decode: Mapping[str, Any]) -> Iterator[_Counts]:
    counts: dict[str, list[int]] = {}
    for item in decode.get("operations", ()):
        total = counts.setdefault(item["operation"], [0, 0, 0])
        for index, count in enumerate((item["macs"], item["bytes"]["sram_read"], item["cycles"])):
            total[index] += count
    for name, (macs, moved, cycles) in counts.items():
        yield name, macs, moved, cycles
