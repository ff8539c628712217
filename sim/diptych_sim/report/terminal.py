# SPDX-License-Identifier: BSD-2-Clause
"""The closing tables of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from diptych_sim.report.findings import findings
from diptych_sim.report.summary import key_figures, panel_rows

__all__ = ["print_accounts"]

SHOWN = 4
"""Causes of a part that its line names."""


def print_accounts(result: Mapping[str, Any], console: Console) -> None:
    """Print cycles and bytes of a result of ``diptych generate``, and what limited it."""
    table = Table(title="Cycles", title_justify="left")
    for name in ("", "measured", "predicted", "bound", "MAC use", "where the cycles went"):
        table.add_column(name, justify="left" if name.startswith("where") else "right")
    levels = Table(title="Bytes", title_justify="left")
    levels.add_column("level")
    rows = panel_rows(result)
    for row in rows:
        levels.add_column(row["name"], justify="right")
        causes = ", ".join(f"{name} {part:.0%}" for name, _, part in row["causes"][:SHOWN])
        table.add_row(row["name"], *(figure.text for figure in row["figures"]), causes)
    names = dict.fromkeys(figure.name for row in rows for figure in row["bytes"])
    for name in names:
        found = [{figure.name: figure.text for figure in row["bytes"]} for row in rows]
        levels.add_row(name, *(texts.get(name, "") for texts in found))
    console.print(table)
    console.print(levels)
    for item in findings(result):
        console.print(f"{item.question} {item.answer}", markup=False)
    console.print("; ".join(f"{figure.name} {figure.text}" for figure in key_figures(result)))
    verdict = "every token equals" if result["matches_golden"] else "DIFFERS FROM"
    console.print(f"{result['wall_seconds']:.1f} s of simulation; {verdict} the golden model")
