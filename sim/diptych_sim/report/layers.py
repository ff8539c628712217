# SPDX-License-Identifier: BSD-2-Clause
"""How far each layer of a prefill, and each operation in it, is from its bound, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["layer_rows", "layers_csv", "print_layers"]

_HEADINGS = ("layer", "operation", "cycles", "bound", "bound/cycles", "MAC use", "lost to")


def layer_rows(prefill: Mapping[str, Any], *, operations: bool) -> Iterator[tuple[str, ...]]:
    """Yield a row of text for each layer, with ``operations`` also for each operation in it.

    Columns: layer, operation, cycles, bound, bound / cycles, MAC utilization, and the causes that
    took cycles other than computing, largest first.
    """
    for layer in prefill["layers"]:
        name = "" if layer["layer"] is None else str(layer["layer"])
        parts = layer.get("operations", ())
        whole = layer.get("operation") or (parts[0]["operation"] if len(parts) == 1 else "all")
        yield _row(name, whole, layer)
        if operations and len(parts) > 1:
            for part in parts:
                yield _row(name, part["operation"], part)


def _row(layer: str, operation: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    cycles, bound = part["cycles"], part["bound_cycles"]
    lost = {name: n for name, n in part["cycles_by_cause"].items() if name != "computing"}
    shown = sorted(lost.items(), key=lambda item: -item[1])
    return (
        layer,
        operation,
        f"{cycles:,}",
        f"{bound:,}" if bound else "",
        f"{bound / cycles:.1%}" if bound and cycles else "",
        f"{part['mac_utilization']:.1%}" if "mac_utilization" in part else "",
        ", ".join(f"{name} {count:,}" for name, count in shown),
    )


def print_layers(prefill: Mapping[str, Any], console: Console) -> None:
    """Print a row for each layer."""
    table = Table(title="Prefill by layer", title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[1::5] else "right")
    for row in layer_rows(prefill, operations=False):
        table.add_row(*row)
    console.print(table)


def layers_csv(prefill: Mapping[str, Any]) -> str:
    """Return a table of all layers and operations as CSV: counts, and a column for each cause."""
    causes = list(prefill["cycles_by_cause"])
    lines = [",".join(["layer", "operation", "cycles", "bound_cycles", "macs", *causes])]
    for layer in prefill["layers"]:
        for part in layer.get("operations", [layer]):
            counts = [part["cycles_by_cause"].get(cause, 0) for cause in causes]
            name = "" if layer["layer"] is None else layer["layer"]
            values = (name, part["operation"], part["cycles"], part["bound_cycles"], part["macs"])
            lines.append(",".join(map(str, (*values, *counts))))
    return "\n".join(lines) + "\n"
