# SPDX-License-Identifier: BSD-2-Clause
"""The committed clock and area of each block, which changes are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .blocks import BLOCKS

__all__ = [
    "BASELINE",
    "TOLERANCE",
    "load_baseline",
    "load_levels",
    "load_tools",
    "merged",
    "slowest",
    "table",
    "worse",
]

BASELINE = Path(__file__).with_name("baseline.json")
"""The file, a folder of this package."""
TOLERANCE = 0.1
"""Part by which a clock may be lower, or an area larger."""
_SIZES = {"luts": 64, "flip_flops": 64, "block_rams": 0, "dsps": 0}
"""Counts, and how much more of each is always allowed: a tenth of few is little."""


def load_baseline() -> dict[str, dict[str, Any]]:
    """Return the measured blocks by name, in the order of the file.

    Each has ``clock_mhz``, the counts of the ECP5-85, ``seed``, ``path`` (kinds and names of its
    slowest path), ``input`` (as of :func:`.measure`), and, if it was measured, ``xc7`` (counts).
    """
    return json.loads(BASELINE.read_text("utf-8"))["blocks"]


def slowest(rooms: Iterable[str]) -> tuple[str, float] | None:
    """Return the block with the lowest routed clock of those in some folders of rtl/diptych, in MHz.

    Blocks that were not measured do not count; None if none was.
    """
    wanted = set(rooms)
    clocks = {
        name: block["clock_mhz"]
        for name, block in load_baseline().items()
        if BLOCKS[name].room in wanted and block.get("clock_mhz")
    }
    return min(clocks.items(), key=lambda item: item[1], default=None)


def load_tools() -> dict[str, str]:
    """Return the versions of the tools that measured the blocks."""
    return json.loads(BASELINE.read_text("utf-8"))["tools"]


def load_levels() -> dict[str, dict[str, Any]]:
    """Return how deep the logic of blocks may be: ``levels`` as of :func:`.depth`.

    ``input``, where it is given, is that of logic that was seen to be no deeper: :func:`.depth_input`.
    """
    return json.loads(BASELINE.read_text("utf-8"))["levels"]


def merged(content: str, results: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a baseline with new results of :func:`.measure` in it.

    Results of another seed than the block's are refused with ValueError.
    """
    baseline = json.loads(content)
    for result in results:
        seed = BLOCKS[result["block"]].seed
        if result["target"] == "ecp5" and result["seed"] != seed:
            raise ValueError(
                f"Seed must be {seed} for the baseline of {result['block']}, not {result['seed']}"
            )
        counts = {key: result[key] for key in _SIZES}
        block = baseline["blocks"].setdefault(result["block"], {})
        if result["target"] == "xc7":
            block["xc7"] = counts
        else:
            block |= {"clock_mhz": result["clock_mhz"], **counts, "path": _path(result)}
            block |= {"seed": seed, "input": result["input"]}
        block["note"] = result["note"]
        baseline["tools"] |= result["tools"]
    known = baseline["blocks"]
    baseline["blocks"] = {name: known[name] for name in BLOCKS if name in known}
    return json.dumps(baseline, indent=2) + "\n"


def _path(result: Mapping[str, Any]) -> list[str]:
    """Return the steps of a path by name, each once, without routing."""
    names = [
        step["name"]
        if step["kind"] in ("logic", "register")
        else f"{step['name']} ({step['kind']})"
        for step in result["critical_path"]
        if step["kind"] != "routing" and not step["name"].startswith("$")
    ]
    return list(dict.fromkeys(names))


def worse(result: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Return in words what of a result is worse than the baseline by more than the tolerance."""
    found = []
    clock, before = result["clock_mhz"], known["clock_mhz"]
    if before is not None and (clock is None or clock < before * (1 - TOLERANCE)):
        found.append(f"clock {clock} MHz, was {before}")
    for key, spare in _SIZES.items():
        if result[key] > known[key] * (1 + TOLERANCE) + spare:
            found.append(f"{result[key]} {key}, was {known[key]}")
    return found


def table(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of blocks: clock and counts of the ECP5-85, and counts of the 7 series.

    A note names the seed where it is not 1.
    """
    head = (
        "block",
        "MHz",
        "LUTs",
        "FFs",
        "RAMs",
        "DSPs",
        "xc7: LUTs",
        "FFs",
        "RAMs",
        "DSPs",
        "note",
    )
    rows: list[tuple[str, ...]] = [head]
    for name, block in blocks.items():
        clock = block["clock_mhz"]
        other = block.get("xc7", {})
        seed = block.get("seed", 1)
        rows.append(
            (
                name,
                "-" if clock is None else f"{clock:.1f}",
                *(f"{block[key]:,}" for key in _SIZES),
                *(f"{other[key]:,}" if key in other else "" for key in _SIZES),
                ", ".join(filter(None, (block["note"], f"seed {seed}" if seed != 1 else ""))),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if n in (0, len(head) - 1) else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
