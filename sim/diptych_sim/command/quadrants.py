# SPDX-License-Identifier: BSD-2-Clause
"""``diptych quadrants``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from diptych.config import MachineConfig
from diptych_sim.account.quadrants import border_points, measured_rows, quadrants_result
from diptych_sim.command.options import (
    ARRAY,
    ENGINE,
    MESH,
    NumberRange,
    Refused,
    Size,
    check_file,
    check_folder,
    json_text,
    load,
    with_model,
    write_json,
)
from diptych_sim.command.running import running
from diptych_sim.compiler.array.hbm_layout import PrefillError
from diptych_sim.compiler.decode.placement import (
    MAX_SEQUENCES,
    MeshTooSmallError,
    UnsupportedModelError,
)
from diptych_sim.cost.requests import RequestCosts
from diptych_sim.engine.names import Engine
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.evaluate import windows
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.texts import held_out_text
from diptych_sim.report.console import console
from diptych_sim.report.quadrants import print_quadrants
from diptych_sim.report.whole_file import write_whole
from diptych_sim.run.folder import QUADRANTS
from diptych_sim.run.quadrants import Point, equal_machine, measure_point

__all__ = ["quadrants"]

PAGE = "quadrants.html"
COUNT = click.IntRange(1, 4096)
_PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128)
_ANSWERS = (1, 2, 8, 32)
_BATCHES = (1, 4)
_LINKS = (4, 0.25)
"""Bytes a cycle; our link can be built for 1 to 4."""
_SHORT = 2
"""Tokens of the short prompts that are measured, too."""


@click.command()
@with_model
@click.option("--prompt-tokens", default=32, show_default=True, type=COUNT)
@click.option("--tokens", default=8, show_default=True, type=COUNT, help="Of each answer.")
@click.option(
    "--batch", default=1, show_default=True, type=click.IntRange(1, MAX_SEQUENCES), help="Requests."
)
@click.option("--mesh", default=None, type=MESH, help="Decode panel.  [default: 8x8]")
@click.option("--array", default=None, type=ARRAY, help="Prefill panel.  [default: of equal MACs]")
@click.option("--hbm-bytes-per-cycle", default=64, show_default=True, type=click.IntRange(1, 64))
@click.option("--link-bytes-per-cycle", default=4, show_default=True, type=click.IntRange(1, 4))
@ENGINE
@click.option(
    "--seed", default=None, type=click.IntRange(0, 2**32 - 1), help="Seed of random draws."
)
@click.option(
    "--clock-mhz",
    default=1000.0,
    show_default=True,
    type=NumberRange(0, min_open=True),
    help="Clock that turns cycles into seconds.",
)
@click.option("--out", default=None, help="Folder for the result and its page.")
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def quadrants(
    model: str,
    tokenizer: str | None,
    prompt_tokens: int,
    tokens: int,
    batch: int,
    mesh: Size | None,
    array: Size | None,
    hbm_bytes_per_cycle: int,
    link_bytes_per_cycle: int,
    engine: Engine,
    seed: int | None,
    clock_mhz: float,
    out: str | None,
    json_file: str | None,
) -> None:
    """Run each phase on each panel, and requests on one panel alone and split, all in RTL.

    Both panels have equal MACs, and equal memory as far as tiles may have it.
    """
    check_file("JSON file", "--json", json_file)
    check_folder("Result folder", "--out", out, (QUADRANTS, PAGE))
    base = MachineConfig(
        hbm_bytes_per_cycle=hbm_bytes_per_cycle, link_bytes_per_cycle=link_bytes_per_cycle
    )
    try:
        machine = equal_machine(base, array=array, mesh=mesh)
    except ValueError as error:
        raise Refused(str(error)) from None
    loaded = load(model, tokenizer)
    prompts = _prompts(loaded, prompt_tokens, tokens, batch)
    with running(PrefillError, MeshTooSmallError, UnsupportedModelError) as progress:
        quantized = quantize_loaded(loaded, progress=progress)
        options: dict[str, Any] = {
            "machine": machine,
            "engine": engine,
            "seed": seed,
            "progress": progress,
        }
        points = [measure_point(quantized, prompts, tokens, **options)]
        if prompt_tokens > _SHORT:
            short = [prompt[:_SHORT] for prompt in prompts]
            points.append(measure_point(quantized, short, tokens, serial=False, **options))
        accounts = [quadrants_result(point, clock_mhz=clock_mhz) for point in points]
        progress("the border, by the cost model")
        result = {
            "matches_golden": all(point.difference is None for point in points),
            **accounts[0],
            **_border(quantized, points, accounts, machine, batch),
            "wall_seconds": sum(_seconds(point) for point in points),
            "config": {
                **accounts[0]["quadrants"]["prefill_array"]["config"],
                "model": loaded.model.name,
                "batch": batch,
                "prompt_tokens": prompt_tokens,
                "tokens": tokens,
                "engine": engine,
                "clock_mhz": clock_mhz,
                "seed": points[0].split.run.seed,
            },
        }
    print_quadrants(console(stderr=json_file == "-"), result)
    if out is not None:
        # Not above: what draws takes a second to import.
        from diptych_sim.report.quadrants_page import quadrants_page

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / QUADRANTS, json_text(result))
        write_whole(folder / PAGE, quadrants_page(result))
    write_json(json_file, result)
    difference = next(filter(None, (point.difference for point in points)), None)
    if difference is not None:
        click.echo(f"error: {difference}", err=True)
        sys.exit(1)


def _prompts(loaded: LoadedModel, length: int, tokens: int, batch: int) -> list[list[int]]:
    """Return the beginnings of documents of a held-out text, each of ``length`` tokens."""
    context = loaded.model.config.context
    if length + tokens - 1 > context:
        raise Refused(
            f"Prompt (--prompt-tokens) and answer (--tokens) must fit into the model's context of "
            f"{context}, not {length} and {tokens} tokens"
        )
    whole = max(2, length)
    cut = windows(loaded.tokenizer, held_out_text(loaded), whole, whole=True)
    found = [ids[:length] for ids in cut if len(ids) == whole]
    if len(found) < batch:
        raise Refused(
            f"Prompts (--batch) must be at most {len(found)} of {length} tokens in the held-out "
            f"text, not {batch}"
        )
    return found[:batch]


def _border(
    model: Any,
    points: Sequence[Point],
    accounts: Sequence[dict[str, Any]],
    machine: MachineConfig,
    batch: int,
) -> dict[str, Any]:
    """Return ``border``, and the ``measured`` points of it with what the cost model says of them."""
    context = model.config.context
    prompts = sorted({*_PROMPTS, *(len(point.prompts[0]) for point in points)})
    answers = sorted({*_ANSWERS, *(point.tokens for point in points)})
    last = min(context, max(prompts) + max(answers))
    costs = RequestCosts(model, machine, last)
    border = border_points(
        costs,
        prompts=prompts,
        tokens=answers,
        batches=sorted({*_BATCHES, batch}),
        links=sorted({*_LINKS, machine.link_bytes_per_cycle}, reverse=True),
    )
    measured = []
    for point, account in zip(points, accounts, strict=True):
        for row in measured_rows(point, account["requests"]):
            same = {name: row[name] for name in row if name not in ("cycles", "best")}
            found = (p for p in border if all(p[name] == value for name, value in same.items()))
            row["predicted"] = next((p["best"] for p in found), "")
            measured.append(row)
    return {"border": border, "measured": measured}


def _seconds(point: Point) -> float:
    runs = [point.array.run, point.mesh.run, point.split.run]
    runs += [point.serial.run] if point.serial is not None else []
    return sum(run.seconds for run in runs)
