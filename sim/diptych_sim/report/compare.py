# SPDX-License-Identifier: BSD-2-Clause
"""Differences between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from diptych_sim.report.operations import operation_rows
from diptych_sim.report.summary import PARTS

__all__ = ["compare", "print_comparison"]

Change = dict[str, Any]


def _change(before: float | None, after: float | None) -> Change:
    ratio = after / before if before and after is not None else None
    return {"before": before, "after": after, "ratio": ratio}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences of two results of ``diptych generate``.

    ``config``: what was set differently, [before, after]. ``same_text``. ``figures``: ``before``,
    ``after`` and ``ratio`` (None where a side has none) of the run's cycles, TTFT and TPOT, and of
    cycles, MAC use, each cause and each level of bytes of a part, by place (``decode.cycles``).
    ``operations``: for each panel, operation and engine, over all layers, the same for ``cycles``;
    those of decode for each time that a layer ran, as runs differ in tokens. Largest change first.
    """
    figures: dict[str, Change] = {}
    for key in ("cycles", "ttft_cycles", "tpot_cycles"):
        figures[key] = _change(before.get(key), after.get(key))
    for part in PARTS:
        sides = [side.get(part) or {} for side in (before, after)]
        for key in ("cycles", "bound_cycles", "mac_utilization"):
            if any(side.get(key) is not None for side in sides):
                figures[f"{part}.{key}"] = _change(*(side.get(key) for side in sides))
        for group in ("cycles_by_cause", "bytes"):
            groups = [side.get(group) or {} for side in sides]
            for name in dict.fromkeys([*groups[0], *groups[1]]):
                values = [side.get(name) for side in groups]
                if any(value is not None for value in values):
                    figures[f"{part}.{group}.{name}"] = _change(*values)
    configs = [side["config"] for side in (before, after)]
    return {
        "config": {
            key: [side.get(key) for side in configs]
            for key in dict.fromkeys([*configs[0], *configs[1]])
            if configs[0].get(key) != configs[1].get(key)
        },
        "same_text": before["text"] == after["text"],
        "figures": figures,
        "operations": _operations(before, after),
    }


def _operations(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    sides = []
    for result in (before, after):
        totals: dict[tuple[str, str, str], list[float]] = {}
        for row in operation_rows(result):
            total = totals.setdefault((row["panel"], row["operation"], row["engine"]), [0, 0])
            total[0] += row["cycles"]
            total[1] += row["count"]
        sides.append(
            {
                key: cycles / count if key[0] == "decode" else cycles
                for key, (cycles, count) in totals.items()
            }
        )
    changes = [
        {"panel": panel, "operation": operation, "engine": engine}
        | _change(*(side.get((panel, operation, engine)) for side in sides))
        for panel, operation, engine in dict.fromkeys([*sides[0], *sides[1]])
    ]
    return sorted(changes, key=lambda item: -abs((item["after"] or 0) - (item["before"] or 0)))


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if 0 < value < 1 else f"{value:,.0f}"


def _row(change: Change) -> list[str]:
    ratio = change["ratio"]
    difference = ""
    if ratio is not None:
        difference = "=" if ratio == 1 else f"{ratio - 1:+.1%}"
    return [_text(change["before"]), _text(change["after"]), difference]


def print_comparison(changes: Mapping[str, Any], console: Console) -> None:
    """Print what :func:`compare` found: all figures of cycles, and what changed of the rest."""
    for key, (old, new) in changes["config"].items():
        console.print(f"{key}: {old} -> {new}", markup=False)
    if not changes["same_text"]:
        console.print("The texts differ")
    table = Table(title="Run", title_justify="left")
    operations = Table(title="Cycles by operation", title_justify="left")
    table.add_column("figure")
    for name in ("panel", "operation", "engine"):
        operations.add_column(name)
    for one in (table, operations):
        for name in ("before", "after", "change"):
            one.add_column(name, justify="right")
    for key, change in changes["figures"].items():
        if key.count(".") < 2 or change["before"] != change["after"]:
            table.add_row(key.replace(".", " ").replace("_", " "), *_row(change))
    for change in changes["operations"]:
        if change["before"] != change["after"]:
            names = [change[name] for name in ("panel", "operation", "engine")]
            operations.add_row(*names, *_row(change))
    console.print(table)
    if operations.row_count:
        console.print(operations)
    elif changes["operations"]:
        console.print("No operation takes other cycles")
