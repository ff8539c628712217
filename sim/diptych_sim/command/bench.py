# SPDX-License-Identifier: BSD-2-Clause
"""``diptych bench``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from diptych_sim.bench import (
    array,
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
    wafers,
)
from diptych_sim.command.options import Refused, check_file, write_json
from diptych_sim.command.running import running
from diptych_sim.report.console import console

__all__ = ["bench"]

MEASURES: dict[str, Callable[[Console, int], dict[str, Any] | None]] = {
    "cost": cost.measure,
    "closed-form": closed_form.measure,
    "decode": decode.measure,
    "collectives": collectives.measure,
    "scalesim": scalesim.measure,
    "roofline": roofline.measure,
    "mesh": mesh.measure,
    "engines": engines.measure,
    "array": array.measure,
    "batch": batch.measure,
    "projection": projection.measure,
    "serving": serving.measure,
    "wafer": wafer.measure,
    "wafers": wafers.measure,
    "trace": trace.measure,
}
"""Measurements, in the order in which they run; some return a result."""
_LARGE = ("wafer", "wafers")
"""Those that run only if they are named."""
_RESULTS = ("cost", "projection", "wafers")
"""Those that return a result."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASURES)))
@click.option("--runs", default=3, show_default=True, type=int, help="Medians of so many runs.")
@click.option("--json", "json_file", default=None, help="Write the results; - for stdout.")
def bench(names: tuple[str, ...], runs: int, json_file: str | None) -> None:
    """Measure the machine beside its peers and bounds: NAMES, or everything but the wafers."""
    if runs < 1:
        raise Refused(f"Number of runs must be at least 1, not {runs}")
    if json_file is not None and not set(names) & set(_RESULTS):
        raise Refused(f"A result (--json) is there of {', '.join(_RESULTS)}: one must be named")
    check_file("JSON file", "--json", json_file)
    terminal = console(stderr=json_file == "-")
    results = {}
    for name in names or [name for name in MEASURES if name not in _LARGE]:
        terminal.rule(name, align="left")
        with running():
            found = MEASURES[name](terminal, runs)
        if found is not None:
            results[name] = found
    write_json(json_file, results)
