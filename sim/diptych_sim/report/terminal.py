# SPDX-License-Identifier: BSD-2-Clause
"""The closing table of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["print_accounts"]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def print_accounts(result: Mapping[str, Any], console: Console) -> None:
    """Print cycles and bytes of a result of ``diptych generate``."""
    table = Table(title="Cycles", title_justify="left")
    for name in ("", "measured", "predicted", "bound", "MAC use", "where the cycles went"):
        table.add_column(name, justify="left" if name.startswith("where") else "right")
    levels = Table(title="Bytes", title_justify="left")
    for name in ("level", "bytes"):
        levels.add_column(name, justify="left" if name == "level" else "right")
    for part in ("prefill", "link", "decode"):
        account = result[part]
        if not account:
            continue
        causes = account["cycles_by_cause"]
        total = sum(causes.values()) or 1
        shown = sorted(causes.items(), key=lambda item: -item[1])[:4]
        table.add_row(
            part,
            _number(account["cycles"]),
            _number(account.get("predicted_cycles")),
            _number(account.get("bound_cycles")),
            f"{account['mac_utilization']:.1%}" if "mac_utilization" in account else "",
            ", ".join(f"{name} {count / total:.0%}" for name, count in shown if count),
        )
    for level, count in result["bytes"].items():
        levels.add_row(level.replace("_", " "), _number(count))
    console.print(table)
    console.print(levels)
    tpot = result["tpot_cycles"]
    verdict = "every token equals" if result["matches_golden"] else "TOKENS DIFFER FROM"
    console.print(
        f"TTFT {result['ttft_cycles']:,} cycles"
        + (f", TPOT {tpot:,.0f} cycles a token" if tpot else "")
        + f"; {result['wall_seconds']:.1f} s of simulation; {verdict} the golden model"
    )
