# SPDX-License-Identifier: BSD-2-Clause
"""Both engines that run the prefill panel, in turns on the same product."""

from __future__ import annotations

import math
from statistics import median

from rich.console import Console
from rich.table import Table

from diptych_sim.bench.products import name_of, product
from diptych_sim.engine.names import ENGINES
from diptych_sim.report.progress import ProgressLine

__all__ = ["measure"]

SHAPE = (512, 512, 256)
ARRAYS = (16, 16), (32, 32)
SMALL = (8, 8, 8)
"""A product that has everything built before the others are timed."""


def measure(console: Console, runs: int) -> None:
    """Print cycles and useful products a second of a product from HBM to HBM, checked and observed.

    Medians of some runs of each engine, in turns; so is the ratio. Seconds are those of the whole
    run without building: checkers and observers are part of it, in Verilator's process, and beside
    lanes on a second core.
    """
    table = Table(
        "array", "engine", "seconds", "cycles/s", "M MACs/s", "lanes / this", title=name_of(SHAPE)
    )
    progress = ProgressLine()
    for array in ARRAYS:
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        cycles = set()
        for engine in ENGINES:
            product(SMALL, array, progress, engine=engine)
        for _ in range(runs):
            for engine in ENGINES:
                done = product(SHAPE, array, progress, engine=engine)
                seconds[engine].append(done.run.seconds)
                cycles.add(done.measured.cycles)
        if len(cycles) != 1:
            raise AssertionError(f"engines must need as many cycles, not {sorted(cycles)}")
        for engine, each in seconds.items():
            middle = median(each)
            ratio = median(a / b for a, b in zip(each, seconds["lanes"], strict=True))
            table.add_row(
                "x".join(map(str, array)),
                engine,
                f"{middle:.2f}",
                f"{max(cycles) / middle:,.0f}",
                f"{math.prod(SHAPE) / middle / 1e6:,.1f}",
                f"{ratio:.1f}",
            )
    progress.stop()
    console.print(table)
