# SPDX-License-Identifier: BSD-2-Clause
"""A sweep over designs of our machine: the cost model in closed form at every point."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from pathlib import Path
from typing import Any

from diptych_sim.cost.models.shape import FORMATS, ModelShape
from diptych_sim.cost.projection.own_machine import Sizes, decode_cycles, prefill_cycles

__all__ = [
    "KEYS",
    "METRICS",
    "SweepError",
    "append_rows",
    "designs",
    "evaluate",
    "pareto",
    "point_sizes",
    "points",
    "read_rows",
    "sweep",
]

Point = tuple[Any, ...]

KEYS = (
    "model",
    "array",
    "mesh",
    "sram_bytes",
    "tile_macs",
    "hbm",
    "link",
    "batch",
    "prompt_tokens",
    "tokens",
)
"""What a point is: columns of the CSV that name it."""
METRICS = {
    "ttft_cycles": "least",
    "tpot_cycles": "least",
    "request_cycles": "least",
    "handoff_cycles": "least",
    "tokens_per_kcycle": "most",
    "tokens_per_mcycle_per_multiplier": "most",
}
"""Metrics by which points are ranked, and whether least or most is best."""
_RESULTS = (
    "multipliers",
    "sram_mb",
    "fits",
    "buildable",
    "prefill_by",
    *METRICS,
)
_COLUMNS = (*KEYS, *_RESULTS)
WORKLOAD = ("batch", "prompt_tokens", "tokens")
"""Keys that are of the requests; the others are of the design."""
_FRAMING = 1.25
"""Bytes on the KV link for a byte of KV: heads and CRCs, as measured for 5 tokens."""
_CHUNK = 256


class SweepError(ValueError):
    """A sweep cannot be run or resumed: one line that says why."""


def points(axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return the product of all axes, in the order of :data:`KEYS`."""
    return list(itertools.product(*(axes[key] for key in KEYS)))


def evaluate(shape: ModelShape, point: Point) -> dict[str, Any]:
    """Return cycles, sizes and rates of a point.

    ``ttft_cycles`` are those of prefill of a batch, one prompt after the other; ``tpot_cycles`` those
    of a round, a token of each request; ``handoff_cycles`` what the KV link takes longer than the
    layers of prefill that it overlaps.
    """
    given: dict[str, Any] = dict(zip(KEYS, point, strict=True))
    machine = point_sizes(given)
    batch, prompt, tokens = given["batch"], given["prompt_tokens"], given["tokens"]
    form = FORMATS["own"]
    array, hbm = prefill_cycles(shape, machine, prompt)
    decode = decode_cycles(shape, machine, prompt + (tokens - 1) / 2)
    prefill = batch * max(array, hbm)
    per_token = batch * (decode.products + decode.waits)
    crossing = _FRAMING * shape.kv_bytes(form, prompt) / machine.link_bytes_per_cycle
    overlapped = max(array, hbm) * (shape.layers - 1) / shape.layers
    handoff = max(crossing / shape.layers, crossing - overlapped)
    request = prefill + handoff + (tokens - 1) * per_token
    resident = shape.weight_bytes(form) + batch * shape.kv_bytes(form, prompt + tokens)
    multipliers = machine.pes + machine.tiles * machine.tile_macs
    rate = batch * tokens / request
    return given | {
        "multipliers": multipliers,
        "sram_mb": machine.tiles * machine.sram_bytes / 1e6,
        "fits": resident <= machine.tiles * machine.sram_bytes,
        "buildable": machine.buildable,
        "prefill_by": "array" if array >= hbm else "hbm",
        "ttft_cycles": prefill,
        "tpot_cycles": per_token,
        "request_cycles": round(request),
        "handoff_cycles": round(handoff),
        "tokens_per_kcycle": 1e3 * rate,
        "tokens_per_mcycle_per_multiplier": 1e6 * rate / multipliers,
    }


def point_sizes(point: Mapping[str, Any]) -> Sizes:
    """Return the machine of a point."""

    def size(text: str) -> tuple[int, int]:
        rows, columns = text.split("x")
        return int(rows), int(columns)

    return Sizes(
        array=size(point["array"]),
        mesh=size(point["mesh"]),
        sram_bytes=point["sram_bytes"],
        tile_macs=point["tile_macs"],
        hbm_bytes_per_cycle=point["hbm"],
        link_bytes_per_cycle=point["link"],
    )


def _evaluate_all(work: tuple[ModelShape, Sequence[Point]]) -> list[dict[str, Any]]:
    shape, chunk = work
    return [evaluate(shape, point) for point in chunk]


def sweep(
    shape: ModelShape,
    todo: Sequence[Point],
    *,
    out: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Evaluate points; with ``out`` each is in that CSV file as soon as it is done.

    With ``resume`` points that the file has are not evaluated again.

    Raises
    ------
    SweepError
        If the file to resume from is none of a sweep.
    """
    rows = read_rows(out, _COLUMNS) if out is not None and resume and out.exists() else []
    done = {tuple(row[key] for key in KEYS): row for row in rows}
    left = [point for point in todo if point not in done]
    if out is not None and not rows:
        append_rows(out, _COLUMNS, [], new=True)
    for chunk in _evaluated(shape, left, jobs):
        done |= {tuple(row[key] for key in KEYS): row for row in chunk}
        if out is not None:
            append_rows(out, _COLUMNS, chunk, new=False)
        count = len(todo) - len(left) + sum(point in done for point in left)
        progress(f"sweeping, {count} of {len(todo)}")
    return [done[point] for point in todo]


def _evaluated(
    shape: ModelShape, left: Sequence[Point], jobs: int
) -> Iterator[list[dict[str, Any]]]:
    work = [(shape, left[at : at + _CHUNK]) for at in range(0, len(left), _CHUNK)]
    if jobs == 1 or len(work) < 2:
        yield from map(_evaluate_all, work)
        return
    with ProcessPoolExecutor(min(jobs, len(work))) as pool:
        yield from pool.map(_evaluate_all, work)


def append_rows(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, new: bool
) -> None:
    """Append rows to a CSV file, or begin a ``new`` one with its head."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    if new:
        table.writeheader()
    table.writerows(rows)
    with path.open("w" if new else "a", encoding="utf-8") as file:
        file.write(text.getvalue())


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a CSV file of ours; one that was cut off in the middle is left out.

    Raises
    ------
    SweepError
        If it is none with these columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SweepError(
            f"Sweep (--out) {path} must be a CSV file of a sweep, not: {error}"
        ) from None
    whole = text[: text.rfind("\n") + 1]
    if not whole and ",".join(columns).startswith(text):
        return []  # cut off in its head
    reader = csv.DictReader(io.StringIO(whole))
    if tuple(reader.fieldnames or ()) != tuple(columns):
        raise SweepError(f"Sweep (--out) {path} must be a CSV file of a sweep to resume from")
    try:
        rows = [{name: _value(name, value) for name, value in record.items()} for record in reader]
    except (ValueError, TypeError):
        raise SweepError(
            f"Sweep (--out) {path} must have numbers, not in line {reader.line_num}"
        ) from None
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return rows


def _value(name: str, text: str) -> Any:
    if name in ("model", "array", "mesh", "prefill_by"):
        return text
    if name in ("fits", "buildable", "matches_golden"):
        return {"True": True, "False": False}[text] if text in ("True", "False") else int("no")
    if name == "measured_tpot_cycles" and not text:  # of one token there is none
        return None
    return float(text) if "." in text or "e" in text else int(text)


def designs(rows: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Return a row for each design, best first.

    Its metric is the geometric mean over the workloads of the sweep, and it fits if it holds each.
    """
    groups: dict[Point, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in KEYS if name not in WORKLOAD)
        groups.setdefault(key, []).append(row)
    same = [name for name in KEYS if name not in WORKLOAD] + ["multipliers", "sram_mb", "buildable"]
    found = [
        {name: group[0][name] for name in same}
        | {
            "workloads": len(group),
            "fits": all(row["fits"] for row in group),
            metric: exp(sum(log(max(row[metric], 1e-9)) for row in group) / len(group)),
        }
        for group in groups.values()
    ]
    return sorted(found, key=lambda row: row[metric], reverse=METRICS[metric] == "most")


def pareto(rows: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    """Return the rows that no other beats in both multipliers and a metric, fewest multipliers first."""
    sign = 1 if METRICS[metric] == "least" else -1
    front: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["multipliers"], sign * row[metric])):
        if not front or sign * row[metric] < sign * front[-1][metric]:
            front.append(row)
    return front
