# SPDX-License-Identifier: BSD-2-Clause
"""Served requests on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diptych_sim.report.projection import short_number, short_time

__all__ = ["print_ratios", "print_served"]


def print_served(console: Console, result: Mapping[str, Any]) -> None:
    """Print percentiles, rates and use of each side."""
    console.print(
        f"{result['requests']:,} requests in {short_time(1e3 * result['seconds'])}: "
        f"{short_number(result['requests_per_second'])} requests/s, {short_number(result['tokens_per_second'])} tokens/s; "
        f"{'calibrated' if result['calibrated'] else 'not calibrated'}",
        soft_wrap=True,
    )
    table = Table("", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("mean", "p50", "p90", "p99"):
        table.add_column(heading, justify="right")
    for words, name in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("hand-off", "handoff_ms")):
        if result[name] is not None:
            table.add_row(
                words, *(short_time(result[name][key]) for key in ("mean", "p50", "p90", "p99"))
            )
    console.print(table)
    use = ", ".join(f"{side} {share:.0%}" for side, share in result["use"].items())
    batch = result["mean_batch"]
    console.print(f"Use: {use}{'' if batch is None else f'; batch {batch:.3g} in the mean'}")
    if result["goodput_per_second"] is not None:
        console.print(
            f"Goodput {short_number(result['goodput_per_second'])} requests/s: "
            f"{result['good_share']:.1%} of the requests are within the limits"
        )
    theory = result["queueing"]
    if theory is not None:
        console.print(
            f"{theory['model']} at {theory['use']:.0%}: mean wait {short_time(theory['wait_ms'])}, by theory "
            f"{short_time(theory['theory_wait_ms'])} ({theory['error']:+.1%}, standard error {theory['standard_error']:.1%})",
            soft_wrap=True,
        )


def print_ratios(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print ways to split machines, the best first."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in (
        "P : D",
        "goodput/s",
        "requests/s",
        "TTFT p50",
        "p99",
        "TPOT p50",
        "p99",
        "use P, D",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        good = row["goodput_per_second"]
        tpot = row["tpot_ms"]
        table.add_row(
            f"{row['prefill_machines']} : {row['decode_machines']}",
            "" if good is None else short_number(good),
            short_number(row["requests_per_second"]),
            *(short_time(row["ttft_ms"][key]) for key in ("p50", "p99")),
            *("" if tpot is None else short_time(tpot[key]) for key in ("p50", "p99")),
            f"{row['use']['prefill']:.0%}, {row['use']['decode']:.0%}",
        )
    console.print(table)
