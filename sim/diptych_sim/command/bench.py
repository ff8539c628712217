# SPDX-License-Identifier: BSD-2-Clause
"""``diptych bench``."""

from __future__ import annotations

from collections.abc import Callable

import click
from rich.console import Console

from diptych_sim.bench import (
    batch,
    closed_form,
    collectives,
    cost,
    decode,
    engines,
    mesh,
    projection,
    roofline,
    scalesim,
    serving,
    trace,
    wafer,
)
from diptych_sim.command.options import Refused
from diptych_sim.command.running import running
from diptych_sim.report.console import console

__all__ = ["bench"]

MEASURES: dict[str, Callable[[Console, int], None]] = {
    "cost": cost.measure,
    "closed-form": closed_form.measure,
    "decode": decode.measure,
    "collectives": collectives.measure,
    "scalesim": scalesim.measure,
    "roofline": roofline.measure,
    "mesh": mesh.measure,
    "engines": engines.measure,
    "batch": batch.measure,
    "projection": projection.measure,
    "serving": serving.measure,
    "wafer": wafer.measure,
    "trace": trace.measure,
}
"""Measurements, in the order in which they run."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASURES)))
@click.option("--runs", default=3, show_default=True, type=int, help="Medians of so many runs.")
def bench(names: tuple[str, ...], runs: int) -> None:
    """Measure the machine beside its peers and bounds: NAMES, or everything but the wafer."""
    if runs < 1:
        raise Refused(f"Number of runs must be at least 1, not {runs}")
    terminal = console()
    for name in names or [name for name in MEASURES if name != "wafer"]:
        terminal.rule(name, align="left")
        with running():
            MEASURES[name](terminal, runs)
