# SPDX-License-Identifier: BSD-2-Clause
"""Projections on the terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = [
    "CSV_COLUMNS",
    "border_rows",
    "check_table",
    "print_projection",
    "projection_csv",
    "short_number",
    "short_time",
]

CSV_COLUMNS = (
    "system",
    "name",
    "published",
    "calibrated",
    "chips",
    "fits",
    "ttft_ms",
    "tpot_ms",
    "tokens_per_second_user",
    "tokens_per_second",
    "bytes_per_token",
    "joules_per_token",
)
"""Columns of the CSV; then ``prefill_bound`` and ``decode_bound``."""


def short_time(milliseconds: float) -> str:
    """Return a time with three digits, in the unit that suits it."""
    for unit, size in (("s", 1e3), ("ms", 1.0), ("us", 1e-3)):
        if milliseconds >= size or unit == "us":
            return (
                f"{milliseconds / size:,.3g} {unit}"
                if milliseconds < 1e6
                else f"{milliseconds / 1e3:,.0f} s"
            )
    raise AssertionError


def short_number(value: float) -> str:
    """Return a number with three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_projection(console: Console, result: Mapping[str, Any]) -> None:
    """Print a table of all systems, and of a split."""
    model = result["model"]
    console.print(
        f"{model['name']}: {model['parameters'] / 1e9:,.2f} G parameters in {result['dtype']}, batch "
        f"{result['batch']}, {result['prompt_tokens']:,} tokens of a prompt, {result['tokens']:,} of an answer",
        soft_wrap=True,
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", no_wrap=True)
    for heading in ("chips", "TTFT", "TPOT", "tokens/s", "in all", "J/tok"):
        table.add_column(heading, justify="right", no_wrap=True)
    other = result["against"]
    if other is not None:
        name = f"x {other['chips']} {other['system']}"
        table.add_column(name, justify="right", no_wrap=True)
    else:
        table.add_column("decode by", no_wrap=True)
    for row in result["systems"]:
        if not row["published"]:
            table.add_row(row["system"], *[""] * 6, "unpublished")
            continue
        joules = row["joules_per_token"]
        marks = f"{'' if row['calibrated'] else ' *'}{'' if row['fits'] else ' +'}"
        table.add_row(
            f"{row['system']}{marks}",
            f"{row['chips']}",
            short_time(row["ttft_ms"]),
            short_time(row["tpot_ms"]),
            short_number(row["tokens_per_second_user"]),
            short_number(row["tokens_per_second"]),
            "" if joules is None else short_number(joules),
            row["decode"]["bound"]
            if other is None
            else f"{row['ratio']['tokens_per_second_user']:.3g}",
        )
    console.print(table)
    shown = [row for row in result["systems"] if row["published"]]
    if not all(row["calibrated"] for row in shown):
        console.print("* not calibrated: no measurement of this system took part in the fit")
    if not all(row["fits"] for row in shown):
        console.print("+ the memory of these chips does not hold the model")
    for row in shown:
        if "merge_factor" in row["parameters"]:
            console.print(
                f"{row['system']}: reductions, merged in software, take "
                f"{row['parameters']['merge_factor']:.3g} times those of our mesh",
                soft_wrap=True,
                highlight=False,
            )
    split = result["split"]
    if split is not None:
        _print_split(console, split)
        if result["border"] is not None:
            _print_border(console, result["border"], split)


def _print_split(console: Console, split: Mapping[str, Any]) -> None:
    request, wait = split["request_ms"], split["handoff_ms"]
    console.print(
        f"Split: prefill on {split['prefill_chips']} {split['prefill']}, decode on {split['decode_chips']} "
        f"{split['decode']}, {split['kv_bytes'] / 1e6:,.1f} MB of KV over {split['link_gbps']:,.0f} Gbit/s; "
        f"{'calibrated' if split['calibrated'] else 'not calibrated'}",
        soft_wrap=True,
    )
    table = Table(
        "way", "request", "of it hand-off", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for name, words, key in (
        ("prefill_system_alone", f"{split['prefill']} alone", None),
        ("decode_system_alone", f"{split['decode']} alone", None),
        ("split_serial", "split, KV after prefill", "serial"),
        ("split_layer_wise", "split, KV layer by layer", "layer_wise"),
    ):
        table.add_row(words, short_time(request[name]), short_time(wait[key]) if key else "")
    console.print(table)
    console.print(
        f"{short_number(split['prefill_systems_per_decode_system'])} prefill systems keep one decode system busy",
        soft_wrap=True,
    )


def border_rows(border: Sequence[Mapping[str, Any]]) -> dict[int, dict[int, str]]:
    """Return the letter of the fastest way by tokens of an answer and of a prompt; "-": none fits."""
    letters: dict[str | None, str] = {
        "prefill_system_alone": "P",
        "decode_system_alone": "D",
        "split_layer_wise": "S",
        None: "-",
    }
    rows: dict[int, dict[int, str]] = {}
    for point in border:
        rows.setdefault(point["tokens"], {})[point["prompt_tokens"]] = letters[point["best"]]
    return rows


def _print_border(
    console: Console, border: Sequence[Mapping[str, Any]], split: Mapping[str, Any]
) -> None:
    rows = border_rows(border)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("answer", justify="right")
    for prompt in next(iter(rows.values())):
        table.add_column(str(prompt), justify="right")
    for tokens, letters in rows.items():
        table.add_row(str(tokens), *letters.values())
    console.print(
        f"Fastest by tokens of prompt and answer: P {split['prefill']} alone, D {split['decode']} "
        "alone, S split, KV layer by layer",
        soft_wrap=True,
    )
    console.print(table)
    if any(point["best"] is None for point in border):
        console.print("- the memory of none holds it")


def projection_csv(result: Mapping[str, Any]) -> str:
    """Return a row for each system; a figure that there is not is empty."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*CSV_COLUMNS, "prefill_bound", "decode_bound"])
    for row in result["systems"]:
        bounds = [row[phase]["bound"] if phase in row else "" for phase in ("prefill", "decode")]
        cells = [row.get(name) for name in CSV_COLUMNS]
        table.writerow([*("" if cell is None else cell for cell in cells), *bounds])
    return out.getvalue()


def check_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of predicted beside published figures."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("system", "model", "batch/in/out", "metric"):
        table.add_column(heading, no_wrap=heading != "model")
    for heading in ("published", "predicted", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row['chips']} {row['system']}{'' if row['calibrated'] else ' *'}",
            f"{row['model']} {row['dtype']}",
            f"{row['batch']}/{row['prompt_tokens']}/{row['output_tokens']}",
            row["metric"],
            f"{row['value']:.4g}",
            f"{row['predicted']:.4g}",
            f"{row['error']:+.1%}",
        )
    return table
