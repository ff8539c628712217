# SPDX-License-Identifier: BSD-2-Clause
"""Roofline of the prefill panel: products of many shapes under the roofs of array and HBM."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from diptych_sim.account.array_gemm import account_array_gemm
from diptych_sim.bench.products import Shape, name_of, product
from diptych_sim.report.progress import ProgressLine

__all__ = ["measure"]

ARRAY = (16, 16)
BANDWIDTHS = (64, 16)
"""Bytes a cycle of HBM; a picture for each."""
SHAPES: tuple[Shape, ...] = (
    (1, 256, 256),
    (4, 256, 256),
    (16, 256, 256),
    (256, 256, 256),
    (64, 64, 64),
    (256, 16, 16),
)
FOLDER = Path("build") / "bench"


def measure(console: Console, runs: int) -> None:
    """Print what share of its roof each product reaches, and write ``build/bench/roofline-*.svg``.

    Cycles do not vary, so each shape runs once, whatever ``runs`` is.
    """
    # Not above: what draws takes a second to import, which other commands need not wait for.
    from diptych_sim.report.roofline import Point, Roof, roofline_svg

    del runs
    progress = ProgressLine()
    size = f"{ARRAY[0]}x{ARRAY[1]}"
    for bandwidth in BANDWIDTHS:
        table = Table(title=f"{size}, {bandwidth} bytes a cycle of HBM")
        for heading in ("shape", "cycles", "MACs a byte", "MACs a cycle", "roof", "of the roof"):
            table.add_column(heading, justify="right")
        roof = Roof(peak=ARRAY[0] * ARRAY[1], bandwidth=bandwidth)
        points = []
        try:
            for shape in SHAPES:
                done = account_array_gemm(
                    product(shape, ARRAY, progress, hbm_bytes_per_cycle=bandwidth)
                )
                moved = done["bytes"]["hbm_read"] + done["bytes"]["hbm_write"]
                name = name_of(shape)
                point = Point(name, done["macs"] / moved, done["macs"] / done["cycles"])
                points.append(point)
                limit = roof.at(point.intensity)
                table.add_row(
                    name,
                    f"{done['cycles']:,}",
                    f"{point.intensity:.2f}",
                    f"{point.rate:.1f}",
                    f"{limit:.1f}",
                    f"{point.rate / limit:.1%}",
                )
        finally:
            progress.stop()
        console.print(table)
        FOLDER.mkdir(parents=True, exist_ok=True)
        target = FOLDER / f"roofline-{size}-{bandwidth}.svg"
        title = f"Prefill panel, {size}: products from HBM to HBM"
        target.write_text(roofline_svg(points, roof, title=title))
        console.print(f"Picture {target}")
