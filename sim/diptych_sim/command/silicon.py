# SPDX-License-Identifier: BSD-2-Clause
"""``diptych silicon``."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from diptych_sim.command.options import Refused, check_file, write_json
from diptych_sim.command.running import running
from diptych_sim.report.console import console
from diptych_sim.silicon.baseline import BASELINE, merged
from diptych_sim.silicon.blocks import BLOCKS
from diptych_sim.silicon.measure import TARGETS, measure

__all__ = ["silicon"]


@click.command()
@click.option("--target", default="ecp5", show_default=True, type=click.Choice(list(TARGETS)))
@click.option("--block", default="all", show_default=True, help="A block of the docs, or all.")
@click.option(
    "--seed",
    default=None,
    type=click.IntRange(1, 2**31 - 1),
    help="Seed of placement.  [default: that of the block's row on the page]",
)
@click.option("--baseline", is_flag=True, help="Write the results into the committed baseline.")
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def silicon(
    target: str, block: str, seed: int | None, baseline: bool, json_file: str | None
) -> None:
    """Synthesize and route blocks with open tools: clock, area and critical path."""
    if block != "all" and block not in BLOCKS:
        raise Refused(f"Block (--block) must be all or one of {' '.join(BLOCKS)}, not {block!r}")
    check_file("Result", "--json", json_file)
    terminal = console(stderr=json_file == "-")
    results: list[dict[str, Any]] = []
    with running() as progress:
        for name in BLOCKS if block == "all" else [block]:
            placed = BLOCKS[name].seed if seed is None else seed
            results.append(measure(BLOCKS[name], target, placed, progress))
            progress.stop()
            terminal.print(_line(results[-1]), soft_wrap=True)
    if baseline:
        try:
            BASELINE.write_text(merged(BASELINE.read_text("utf-8"), results), "utf-8")
        except ValueError as error:
            raise Refused(str(error)) from None
    if block == "all":
        write_json(json_file, {"target": target, "seed": seed, "blocks": results})
        return
    if results[0]["critical_path"]:
        terminal.print(_path(results[0]))
    write_json(json_file, results[0])


def _line(result: dict[str, Any]) -> str:
    clock = result["clock_mhz"]
    speed = f"{clock:.1f} MHz, " if clock is not None else ""
    counts = ", ".join(
        f"{result[key]:,} {words}"
        for key, words in (
            ("luts", "LUTs"),
            ("flip_flops", "flip-flops"),
            ("block_rams", "block RAMs"),
            ("dsps", "DSPs"),
        )
    )
    note = f" ({result['note']})" if result["note"] else ""
    return f"{result['block']}{note}: {speed}{counts}"


def _path(result: dict[str, Any]) -> Table:
    table = Table("ns", "step", "kind", "net or cell", box=None)
    at = 0.0
    for step in result["critical_path"]:
        at += step["ns"]
        table.add_row(f"{at:.2f}", f"{step['ns']:.2f}", step["kind"], step["name"])
    return table
