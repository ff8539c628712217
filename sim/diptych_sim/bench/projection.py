# SPDX-License-Identifier: BSD-2-Clause
"""Projection beside published figures: rows that it was fitted to, each left out, and others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diptych_sim.cost.projection.fit import fit, leave_one_out, leave_one_system_out
from diptych_sim.cost.projection.rows import Row, packaged_rows, predict
from diptych_sim.cost.systems.load import load_systems

__all__ = ["measure"]


def _mean(errors: Sequence[float]) -> float:
    return sum(map(abs, errors)) / len(errors)


def _errors(rows: Sequence[Row], predicted: Sequence[float]) -> list[float]:
    return [got / row.value - 1 for got, row in zip(predicted, rows, strict=True)]


def measure(console: Console, _runs: int) -> dict[str, Any]:
    """Print the errors of each calibration row, in-sample and left out, and of rows never fitted.

    Their means are returned.
    """
    systems = load_systems()
    rows = packaged_rows("calibration", systems)
    p = fit(rows)
    found = (
        _errors(rows, [predict(row, p) for row in rows]),
        _errors(rows, leave_one_out(rows)),
        _errors(rows, leave_one_system_out(rows)),
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("system", "model", "metric"):
        table.add_column(heading)
    for heading in ("published", "in-sample", "row out", "system out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, *errors in zip(rows, *found, strict=True):
        table.add_row(
            f"{row.chips} {row.system.id}",
            f"{row.job.model.name} {row.job.dtype}",
            row.metric,
            f"{row.value:.5g}",
            *(f"{error:+.1%}" for error in errors),
        )
    table.add_section()
    means = [_mean(errors) for errors in found]
    table.add_row("mean", f"{len(rows)} rows", "", "", *(f"{mean:.1%}" for mean in means))
    console.print(table)
    others = packaged_rows("validation", systems)
    by_system: dict[str, list[float]] = defaultdict(list)
    for row in others:
        by_system[row.system.id].append(predict(row, p) / row.value - 1)
    parts = ", ".join(
        f"{name} {_mean(errors):.1%} of {len(errors)}" for name, errors in by_system.items()
    )
    every = [error for errors in by_system.values() for error in errors]
    console.print(
        f"Rows that took no part in the fit: {_mean(every):.1%} of {len(every)} in the mean; {parts}",
        soft_wrap=True,
    )
    return dict(
        zip(
            ("in_sample", "row_out", "system_out", "validation"),
            [*means, _mean(every)],
            strict=True,
        )
    )
