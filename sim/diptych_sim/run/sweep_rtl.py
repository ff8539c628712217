# SPDX-License-Identifier: BSD-2-Clause
"""Points of a sweep, run in RTL beside what the cost model says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.compiler.array.hbm_layout import PrefillError
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.cost.models.shape import ModelShape, config_of
from diptych_sim.engine.build import Progress
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.random_weights import random_model

from .generate import generate
from .sweep import KEYS, SweepError, append_rows, point_sizes, read_rows

__all__ = ["MEASURED", "MOST_PARAMETERS", "check_shape", "measure_rows", "rtl_file"]

MOST_PARAMETERS = 4_000_000
"""Weights of a model that runs in minutes."""
MEASURED = ("ttft_cycles", "tpot_cycles", "request_cycles")
"""Metrics that are measured."""
_COLUMNS = (
    *KEYS,
    "matches_golden",
    *(f"{kind}_{name}" for name in MEASURED for kind in ("predicted", "measured")),
)


def rtl_file(out: Path) -> Path:
    """Return the file of the points in RTL beside the one of all points."""
    return out.with_suffix(".rtl.csv")


def check_shape(shape: ModelShape) -> None:
    """Refuse a model that RTL cannot run, or not in minutes.

    Raises
    ------
    SweepError
        If it is one.
    """
    if shape.experts > 1 or shape.windowed_layers or shape.parameters > MOST_PARAMETERS:
        raise SweepError(
            f"RTL (--rtl) must have a dense model of at most {MOST_PARAMETERS:,} weights, not "
            f"{shape.name} with {shape.parameters:,}"
        )
    try:
        config_of(shape, 2)
    except ValueError as error:
        raise SweepError(f"RTL (--rtl) cannot run {shape.name}: {error}") from None


def measure_rows(
    shape: ModelShape,
    rows: Sequence[Mapping[str, Any]],
    count: int,
    *,
    out: Path | None = None,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run the first ``count`` points that the panels hold; what they do not is told.

    Weights are random, which cost what others do. With ``out`` each point is in that CSV file as
    soon as it is done; with ``resume`` those that it has are not run again.

    Each result has the point's keys, ``matches_golden``, and for each of three metrics
    ``predicted``, ``measured`` and ``error``.

    Raises
    ------
    SweepError
        If none can be run, or the file to resume from is none of a sweep's RTL.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    step = progress or (lambda _step: None)
    known = read_rows(out, _COLUMNS) if out is not None and resume and out.exists() else []
    done = {_key(row): row for row in known}
    if out is not None and not known:
        append_rows(out, _COLUMNS, [], new=True)
    found: list[dict[str, Any]] = []
    reason = "no point can be built and holds the model"
    for row in rows:
        if len(found) == count:
            break
        if _key(row) not in done:
            label = f"RTL, point {len(found) + 1} of {count}"
            try:
                record = _measure(shape, row, lambda text, label=label: step(f"{label}: {text}"))
            except (MeshTooSmallError, PrefillError, UnsupportedModelError) as error:
                reason = f"array {row['array']}, mesh {row['mesh']}: {error}"
                tell(f"not run in RTL: {reason}")
                continue
            done[_key(row)] = record
            if out is not None:
                append_rows(out, _COLUMNS, [record], new=False)
        found.append(_result(done[_key(row)]))
    if count and not found:
        raise SweepError(f"RTL (--rtl) must have a point that it can run: {reason}")
    return found


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS)


def _measure(shape: ModelShape, row: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Run a point; return its record in the file."""
    prompt, tokens, batch = (row[name] for name in ("prompt_tokens", "tokens", "batch"))
    model: QuantizedModel = random_model(config_of(shape, max(2, prompt + tokens)), 1)
    rng = np.random.default_rng(1)
    prompts = rng.integers(0, shape.vocab, (batch, prompt)).tolist()
    machine = point_sizes(row).machine
    done = generate(model, prompts, [tokens] * batch, machine=machine, progress=progress)
    came = [event["cycle"] for event in done.events if event["kind"] == "token"][batch - 1 :: batch]
    start = next(event["cycle"] for event in done.events if event["kind"] == "started")
    measured = {
        "ttft_cycles": came[0] - start,
        "tpot_cycles": (came[-1] - came[0]) / (len(came) - 1) if len(came) > 1 else None,
        "request_cycles": came[-1] - start,
    }
    return {
        **{name: row[name] for name in KEYS},
        "matches_golden": done.matches_golden,
        **{f"predicted_{name}": row[name] for name in MEASURED},
        **{f"measured_{name}": measured[name] for name in MEASURED},
    }


def _result(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with what was predicted and measured beside each other."""
    result: dict[str, Any] = {name: record[name] for name in (*KEYS, "matches_golden")}
    for name in MEASURED:
        predicted, measured = record[f"predicted_{name}"], record[f"measured_{name}"]
        error = None if measured is None else predicted / measured - 1
        result[name] = {"predicted": predicted, "measured": measured, "error": error}
    return result
