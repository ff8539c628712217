# SPDX-License-Identifier: BSD-2-Clause
"""``diptych sweep``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from diptych_sim.command.options import Refused, check_file, write_json
from diptych_sim.command.running import running
from diptych_sim.cost.models.load import load_shape
from diptych_sim.report.console import console
from diptych_sim.report.whole_file import write_whole
from diptych_sim.run.sweep import METRICS, SweepError, designs, pareto, points
from diptych_sim.run.sweep import sweep as run_sweep
from diptych_sim.run.sweep_rtl import MEASURED, check_shape, measure_rows, rtl_file

__all__ = ["sweep"]

_MOST_POINTS = 1_000_000


class ListType(click.ParamType):
    """Values with commas between them: whole numbers, or sizes RxC."""

    name = "LIST"

    def __init__(self, pattern: str, words: str, most: int) -> None:
        self.pattern, self.words, self.most = pattern, words, most

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        found = []
        for text in str(value).split(","):
            if not re.fullmatch(self.pattern, text) or not all(
                1 <= int(number) <= self.most for number in text.split("x")
            ):
                self.fail(
                    f"must be {self.words} from 1 to {self.most}, not {text!r:.40}", param, ctx
                )
            found.append(text if "x" in text else int(text))
        return tuple(dict.fromkeys(found))


SIZES = ListType("[0-9]{1,5}x[0-9]{1,5}", "sizes RxC with commas between them, each side", 4096)
NUMBERS = ListType("[0-9]{1,9}", "whole numbers with commas between them, each", 2**24)


@click.command()
@click.option("--model", default="smollm2-135m", show_default=True)
@click.option("--array", default="16x16", show_default=True, type=SIZES)
@click.option("--mesh", default="8x8", show_default=True, type=SIZES)
@click.option("--sram-bytes", default="24576", show_default=True, type=NUMBERS, help="Of a tile.")
@click.option("--tile-macs", default="8", show_default=True, type=NUMBERS, help="Products a cycle.")
@click.option("--hbm", default="64", show_default=True, type=NUMBERS, help="Bytes a cycle.")
@click.option("--link", default="4", show_default=True, type=NUMBERS, help="Bytes a cycle.")
@click.option("--batch", default="1", show_default=True, type=NUMBERS)
@click.option("--prompt-tokens", default="128", show_default=True, type=NUMBERS)
@click.option("--tokens", default="128", show_default=True, type=NUMBERS, help="Of an answer.")
@click.option(
    "--rank", default="request_cycles", show_default=True, type=click.Choice(list(METRICS))
)
@click.option("--fitting", is_flag=True, help="Rank only machines that hold the model.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes."
)
@click.option("--out", default=None, help="CSV of all points.")
@click.option("--resume", is_flag=True, help="Leave out points that --out has.")
@click.option("--svg", default=None, help="Pareto picture of multipliers and the metric.")
@click.option(
    "--rtl",
    "count",
    default=0,
    show_default=True,
    type=click.IntRange(0, 100),
    help="Run so many of the best points in RTL; they go to a file .rtl.csv beside --out.",
)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def sweep(
    model: str,
    rank: str,
    fitting: bool,
    top: int,
    jobs: int,
    out: str | None,
    resume: bool,
    svg: str | None,
    count: int,
    json_file: str | None,
    **axes: tuple[Any, ...],
) -> None:
    """Sweep designs of our machine by the cost model; every option with a LIST is an axis."""
    check_file("JSON file", "--json", json_file)
    check_file("CSV file", "--out", out, suffixes=(".csv",))
    check_file("Picture", "--svg", svg, suffixes=(".svg",))
    if resume and out is None:
        raise Refused("--resume requires a CSV file (--out)")
    number = 1
    for values in axes.values():
        number *= len(values)
    if number > _MOST_POINTS:
        raise Refused(f"Points must be at most {_MOST_POINTS:,}, not {number:,}")
    with running(SweepError) as progress:
        shape = load_shape(model)
        if count:
            check_shape(shape)
        rows = run_sweep(
            shape,
            points({"model": (shape.name,), **axes}),
            out=None if out is None else Path(out),
            resume=resume,
            jobs=jobs,
            progress=progress,
        )
        measured = measure_rows(
            shape,
            _best(rows, rank),
            count,
            out=None if out is None or not count else rtl_file(Path(out)),
            resume=resume,
            tell=lambda line: click.echo(line, err=True),
            progress=progress,
        )
    ranked = [row for row in designs(rows, rank) if row["fits"] or not fitting]
    if not ranked:
        raise Refused("--fitting must leave a design: none of this sweep holds the model")
    front = pareto(ranked, rank)
    terminal = console(stderr=json_file == "-")
    mean = ", mean of its workloads" if ranked[0]["workloads"] > 1 else ""
    terminal.print(
        f"{shape.name}: {len(rows):,} points, {len(ranked):,} designs, {len(front)} on the front; "
        f"best by {rank}{mean}:",
        soft_wrap=True,
    )
    terminal.print(_table(ranked[:top], rank))
    for row in measured:
        terminal.print(_measured_line(row), soft_wrap=True, highlight=False)
    if svg is not None:
        # Not above: what draws takes a second to import.
        from diptych_sim.report.sweep import pareto_svg

        write_whole(Path(svg), pareto_svg(ranked, front, rank, measured))
    result = {"points": len(rows), "rank": rank, "best": ranked[:top], "pareto": front}
    write_json(json_file, result | {"rtl": measured})
    if not all(row["matches_golden"] for row in measured):
        click.echo("error: tokens of a point differ from the golden model's", err=True)
        sys.exit(1)


def _best(rows: list[dict[str, Any]], rank: str) -> list[dict[str, Any]]:
    """Return the points that can be built and may hold the model, best first."""
    return sorted(
        (row for row in rows if row["buildable"] and row["fits"]),
        key=lambda row: row[rank],
        reverse=METRICS[rank] == "most",
    )


def _measured_line(row: dict[str, Any]) -> str:
    """Return what RTL says of a point beside what was predicted."""
    parts = [
        f"{name.removesuffix('_cycles')} {row[name]['measured']:,.0f} ({row[name]['error']:+.1%})"
        for name in MEASURED
        if row[name]["error"] is not None
    ]
    return (
        f"RTL, array {row['array']}, mesh {row['mesh']}, HBM {row['hbm']}, link {row['link']}, "
        f"{row['batch']} x {row['prompt_tokens']} + {row['tokens']} tokens: cycles measured (error of "
        f"the prediction) {', '.join(parts)}"
    )


def _table(rows: list[dict[str, Any]], rank: str) -> Table:
    columns = ("array", "mesh", "sram_bytes", "tile_macs", "hbm", "link")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("array", "mesh", "SRAM", "MACs", "HBM", "link", "multipliers", rank, ""):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        value = row[rank]
        table.add_row(
            *(str(row[name]) for name in columns),
            f"{row['multipliers']:,}",
            f"{value:,.0f}" if value >= 1000 else f"{value:.4g}",
            "" if row["fits"] else "too small",
        )
    return table
