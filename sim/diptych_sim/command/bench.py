# SPDX-License-Identifier: BSD-2-Clause
"""``diptych bench``."""

from __future__ import annotations

import statistics

import click

from diptych_sim.command.options import (
    Refused,
    load,
)
from diptych_sim.generate import Machine
from diptych_sim.generate import generate as run_machine
from diptych_sim.golden.calibrate import quantize_loaded

__all__ = ["bench"]


@click.command()
@click.option("--runs", default=3, show_default=True, type=int)
def bench(runs: int) -> None:
    """Measure the bundled model, and compare with a published peer of the same shape.

    llama2.v runs a model of these dimensions in 1,109,500 cycles and 17.1 s a token.
    """
    if runs < 1:
        raise Refused(f"Number of runs must be at least 1, not {runs}")
    loaded = load("builtin", None)
    quantized = quantize_loaded(loaded)
    ids = loaded.tokenizer.encode("In the beginning")
    machine = Machine(sram_bytes=24576)
    cycles, seconds = [], []
    for _ in range(runs):
        done = run_machine(quantized, ids, 17, machine=machine)
        times = [e for e in done.events if e["kind"] == "token"]
        cycles.append((times[-1]["cycle"] - times[0]["cycle"]) / 16)
        seconds.append((times[-1]["wall"] - times[0]["wall"]) / 16)
    cycle, second = statistics.median(cycles), statistics.median(seconds)
    click.echo(f"decode 8x8: {cycle:,.0f} cycles a token, {1_109_500 / cycle:,.0f} times fewer")
    click.echo(f"simulation: {second:.3f} s a token, {17.1 / second:,.0f} times less")
