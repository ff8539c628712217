# SPDX-License-Identifier: BSD-2-Clause
"""The table of operations: what ``operations.csv``, the HTML report and ``compare`` show."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["LEVELS", "OPERATION_FIELDS", "operation_rows", "operations_csv"]

OPERATION_FIELDS = (
    "panel",
    "layer",
    "operation",
    "engine",
    "count",
    "start",
    "end",
    "cycles",
    "macs",
)
"""Columns before those of bytes and causes."""
LEVELS = ("bytes", "sram_read", "sram_write", "fabric_hops")


def operation_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each panel, layer, operation and engine, in program order.

    ``count`` commands or windows; ``start`` of the first and ``end`` of the last (of the first
    window, for decode), in cycles since the start of the run. ``cycles``: for the array, those that
    belong to the operation, which sum to the prefill; for other engines, from start to end of each
    command; for tiles, of the windows, which sum to the decoded tokens that were recorded.
    ``cycles_by_cause``: cycles of the array, or tile cycles. ``bytes``: by level; loads and stores
    have ``bytes``, what they move over HBM or the link.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for panel in ("prefill", "decode"):
        for item in (result.get(panel) or {}).get("operations") or ():
            key = (panel, item["layer"], item["operation"], item["engine"])
            row = rows.setdefault(
                key,
                dict(zip(OPERATION_FIELDS, key, strict=False))
                | {"count": 0, "start": item["start"], "end": item["end"]}
                | {"cycles": 0, "macs": 0, "bytes": {}, "cycles_by_cause": {}},
            )
            row["count"] += item.get("windows", 1)
            row["start"] = min(row["start"], item["start"])
            row["end"] = max(row["end"], item["end"])
            row["cycles"] += item.get("cycles", item["end"] - item["start"])
            row["macs"] += item.get("macs", 0)
            moved = item.get("bytes", {})
            _add(row["bytes"], moved if isinstance(moved, Mapping) else {"bytes": moved})
            _add(row["cycles_by_cause"], item.get("cycles_by_cause", {}))
    return list(rows.values())


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def operations_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows of :func:`operation_rows` as CSV: a header, then a line for each."""
    rows = list(rows)
    causes = list(dict.fromkeys(cause for row in rows for cause in row["cycles_by_cause"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*OPERATION_FIELDS, *LEVELS, *causes])
    for row in rows:
        writer.writerow(
            [row[name] for name in OPERATION_FIELDS]
            + [row["bytes"].get(level) for level in LEVELS]
            + [row["cycles_by_cause"].get(cause) for cause in causes]
        )
    return out.getvalue()
