# SPDX-License-Identifier: BSD-2-Clause
"""``diptych project``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from diptych_sim.command.options import Refused, check_file, given, write_json
from diptych_sim.command.running import running
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.models.shape import FORMATS, ModelShape
from diptych_sim.cost.projection.border import border as find_border
from diptych_sim.cost.projection.job import Job, ProjectionError
from diptych_sim.cost.projection.parameters import fitted
from diptych_sim.cost.projection.project import project as project_job
from diptych_sim.cost.projection.result import (
    is_calibrated,
    job_json,
    projection_json,
    ratios_json,
    split_json,
    unpublished_json,
)
from diptych_sim.cost.projection.rows import RowError, predict, read_rows
from diptych_sim.cost.projection.split import split
from diptych_sim.cost.systems.load import SystemFileError, find_system, load_systems
from diptych_sim.cost.systems.schema import System
from diptych_sim.report.console import console
from diptych_sim.report.projection import check_table, print_projection, projection_csv
from diptych_sim.report.whole_file import write_whole

__all__ = ["project"]

_MOST = 2**24
DTYPES = [name for name in FORMATS if name != "own"]
COUNT = click.IntRange(1, _MOST)


def dtype_of(model: ModelShape, dtype: str | None) -> str:
    """Return a number format: as given, or that in which a model is published."""
    if dtype is not None:
        return dtype
    return "mxfp4" if model.experts > 1 and model.name.startswith("gpt-oss") else "bf16"


class _Pair(NamedTuple):
    """Systems of a split, as they were asked for."""

    prefill: str
    decode: str
    prefill_chips: int | None
    decode_chips: int | None
    link_gbps: float | None
    border: bool


@click.command()
@click.option("--model", default=None, help="Name of a model, or a config.json.")
@click.option("--system", default=None, help="Name of a system, or all.")
@click.option("--systems", "folder", default=None, help="Folder with further systems (.toml).")
@click.option("--chips", type=COUNT, help="Chips of a system; else as few as hold the model.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of weights; bf16 unless the model says.")
@click.option("--batch", default=1, show_default=True, type=COUNT)
@click.option("--prompt-tokens", default=1024, show_default=True, type=COUNT)
@click.option("--tokens", default=256, show_default=True, type=COUNT, help="Of an answer.")
@click.option("--against", default=None, help="SYSTEM or SYSTEM:CHIPS; how many times its figures.")
@click.option("--prefill", "prefill_name", default=None, help="System that reads the prompts.")
@click.option("--decode", "decode_name", default=None, help="System that writes the answers.")
@click.option("--prefill-chips", type=COUNT, help="Chips of the former; else as few as hold it.")
@click.option("--decode-chips", type=COUNT, help="Chips of the latter.")
@click.option("--link-gbps", type=float, help="Link between both, Gbit/s.")
@click.option("--border", is_flag=True, help="Which way is fastest, by lengths (with --prefill).")
@click.option("--check", "rows_file", default=None, help="CSV of published figures to predict.")
@click.option("--csv", "csv_file", default=None, help="Write the table as CSV.")
@click.option("--html", "html_file", default=None, help="Write the projection as a page.")
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def project(
    model: str | None,
    system: str | None,
    folder: str | None,
    chips: int | None,
    dtype: str | None,
    batch: int,
    prompt_tokens: int,
    tokens: int,
    against: str | None,
    prefill_name: str | None,
    decode_name: str | None,
    prefill_chips: int | None,
    decode_chips: int | None,
    link_gbps: float | None,
    border: bool,
    rows_file: str | None,
    csv_file: str | None,
    html_file: str | None,
    json_file: str | None,
) -> None:
    """Project prefill and decode of a model on the systems of the field, or check published rows."""
    check_file("JSON file", "--json", json_file)
    check_file("CSV file", "--csv", csv_file, suffixes=(".csv",))
    check_file("HTML file", "--html", html_file, suffixes=(".html",))
    if rows_file is not None:
        others = {param.name or "" for param in project.params} - {
            "rows_file",
            "folder",
            "json_file",
        }
        unused = given(sorted(others))
        if unused:
            raise Refused(f"--check excludes {', '.join(unused)}: its rows say what is projected")
        _check(rows_file, folder, json_file)
        return
    pair = None
    if prefill_name is not None and decode_name is not None:
        pair = _Pair(prefill_name, decode_name, prefill_chips, decode_chips, link_gbps, border)
        if system is not None or chips is not None:
            raise Refused("--prefill and --decode exclude --system and --chips")
        if link_gbps is not None and not 0 < link_gbps < 1e9:
            raise Refused(f"Link (--link-gbps) must be above 0 Gbit/s, not {link_gbps:g}")
    elif border or {prefill_name, decode_name, prefill_chips, decode_chips, link_gbps} != {None}:
        raise Refused(
            "--prefill, --decode, --prefill-chips, --decode-chips, --link-gbps and --border require "
            "both --prefill and --decode"
        )
    with running(SystemFileError, ProjectionError):
        systems = load_systems(folder)
        shape = load_shape("llama-3.1-8b" if model is None else model)
        job = Job(
            model=shape,
            dtype=dtype_of(shape, dtype),
            batch=batch,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
        )
        result = job_json(job) | {"against": None}
        if pair is None:
            rows = _rows(systems, job, system, chips)
            result |= {"systems": rows, "split": None, "border": None}
        else:
            result |= _split(systems, job, pair)
        if against is not None:
            _compare(result, systems, job, against)
    print_projection(console(stderr=json_file == "-"), result)
    if csv_file is not None:
        write_whole(Path(csv_file), projection_csv(result))
    if html_file is not None:
        # Not above: what draws takes a second to import.
        from diptych_sim.report.projection_page import projection_page

        write_whole(Path(html_file), projection_page(result))
    write_json(json_file, result)


def _rows(
    systems: Mapping[str, System], job: Job, name: str | None, chips: int | None
) -> list[dict[str, Any]]:
    p = fitted()
    chosen = systems.values() if name in (None, "all") else [find_system(systems, name)]
    return [
        unpublished_json(system)
        if system.missing or system.kind == "unpublished"
        else projection_json(project_job(system, job, p, chips), p)
        for system in chosen
    ]


def _compare(result: dict[str, Any], systems: Mapping[str, System], job: Job, against: str) -> None:
    """Add to each row how many times the figures of another system its own are."""
    name, _, chips = against.partition(":")
    if ":" in against and not (chips.isascii() and chips.isdigit() and 0 < int(chips) <= _MOST):
        raise Refused(
            f"Other system (--against) must be SYSTEM or SYSTEM:CHIPS, as h100:8, not {against!r:.60}"
        )
    p = fitted()
    done = project_job(find_system(systems, name), job, p, int(chips) if chips else None)
    other = projection_json(done, p)
    result["against"] = other
    for row in result["systems"]:
        row["ratio"] = ratios_json(row, other) if row["published"] else None


def _split(systems: Mapping[str, System], job: Job, pair: _Pair) -> dict[str, Any]:
    p = fitted()
    done = split(
        find_system(systems, pair.prefill),
        find_system(systems, pair.decode),
        job,
        p,
        prefill_chips=pair.prefill_chips,
        decode_chips=pair.decode_chips,
        link_gbps=pair.link_gbps,
    )
    sides = {
        (one.system.id, one.chips): projection_json(one, p) for one in (done.prefill, done.decode)
    }
    return {
        "systems": list(sides.values()),
        "split": split_json(done, p),
        "border": find_border(done, job, p) if pair.border else None,
    }


def _check(path: str, folder: str | None, json_file: str | None) -> None:
    p = fitted()
    with running(SystemFileError, ProjectionError, RowError):
        found = []
        for row in read_rows(path, load_systems(folder)):
            predicted = predict(row, p)
            found.append(
                {
                    "system": row.system.id,
                    "chips": row.chips,
                    "model": row.job.model.name,
                    "dtype": row.job.dtype,
                    "batch": row.job.batch,
                    "prompt_tokens": row.job.prompt_tokens,
                    "output_tokens": row.job.tokens,
                    "metric": row.metric,
                    "value": row.value,
                    "predicted": predicted,
                    "error": predicted / row.value - 1,
                    "calibrated": is_calibrated(row.system, p),
                    "source": row.source,
                }
            )
    mean = sum(abs(row["error"]) for row in found) / len(found)
    terminal = console(stderr=json_file == "-")
    terminal.print(check_table(found))
    terminal.print(f"Mean error {mean:.1%} of {len(found)} rows", soft_wrap=True)
    write_json(json_file, {"rows": found, "mean_error": mean})
