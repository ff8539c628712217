# SPDX-License-Identifier: BSD-2-Clause
"""Collectives, beside the lower bound and a published model of a wafer."""

from __future__ import annotations

from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from diptych_sim.account.mesh_kernels import account_collective
from diptych_sim.compiler.collectives.compile import ALGORITHMS, Collective, Operation
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.collective import collective, random_vectors

__all__ = ["measure"]

SIZES = ((1, 64, (1, 64, 512)), (8, 8, (64,)), (16, 16, (64, 512)))
"""Rows, columns, and numbers of words."""


def _allowed(c: Collective) -> float | None:
    """Cycles that we ask of the fabric: ``B + P + 6``, or ``1.1 (2 P + B) + 12`` there and back."""
    if c.algorithm != "fabric":
        return None
    way = c.rows + c.columns - 1
    if c.operation == "allreduce":
        return 1.1 * (2 * way + c.words) + 12
    return c.words + way + 6


def measure(console: Console, runs: int) -> None:
    """Print cycles by operation, algorithm, mesh and words; cycles do not vary between runs."""
    del runs
    progress = ProgressLine()
    table = Table(box=None, pad_edge=False)
    for name in ("operation", "algorithm", "mesh"):
        table.add_column(name)
    for name in ("words", "cycles", "predicted", "bound", "ratio", "published", "ratio", "asked"):
        table.add_column(name, justify="right")
    for rows, columns, lengths in SIZES:
        for words in lengths:
            for operation in get_args(Operation):
                for algorithm in ALGORITHMS:
                    c = Collective(
                        operation=operation,
                        algorithm=algorithm,
                        rows=rows,
                        columns=columns,
                        words=words,
                    )
                    what = f"{operation}, {algorithm}, of {words} words on {rows}x{columns}"
                    progress(what)
                    done = collective(c, random_vectors(c, 1))
                    if not done.matches_golden:
                        raise click.ClickException(f"{what}, differs from NumPy's")
                    table.add_row(*_row(c, account_collective(done)))
    progress.stop()
    console.print(table)


def _row(c: Collective, accounts: dict[str, Any]) -> list[str]:
    cycles, bound = accounts["cycles"], accounts["bound_cycles"]
    published, allowed = accounts["published_cycles"], _allowed(c)
    return [
        c.operation,
        c.algorithm,
        f"{c.rows}x{c.columns}",
        str(c.words),
        str(cycles),
        str(accounts["predicted_cycles"]),
        str(bound),
        f"{cycles / bound:.2f}",
        str(published or ""),
        f"{cycles / published:.2f}" if published else "",
        f"{allowed:.0f}" if allowed else "",
    ]
