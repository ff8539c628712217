# SPDX-License-Identifier: BSD-2-Clause
"""Rows of published measurements: read, checked, and predicted."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.models.shape import FORMATS
from diptych_sim.cost.projection.job import Job, ProjectionError
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.projection.project import METRICS, metric, project
from diptych_sim.cost.systems.load import SystemFileError, find_system
from diptych_sim.cost.systems.schema import System
from diptych_sim.llm.errors import ModelFileError

__all__ = ["COLUMNS", "Row", "RowError", "mean_error", "packaged_rows", "predict", "read_rows"]

COLUMNS = (
    "system",
    "chips",
    "model",
    "dtype",
    "batch",
    "prompt_tokens",
    "output_tokens",
    "metric",
    "value",
    "source",
)
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16"}
"""Further names of number formats."""
_MOST = 10**9


class RowError(ValueError):
    """A file of rows cannot be used: one line that names file, line and column."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A published measurement."""

    system: System
    chips: int
    job: Job
    metric: str
    value: float
    source: str
    where: str
    """File and line, for messages."""


def packaged_rows(name: str, systems: Mapping[str, System]) -> list[Row]:
    """Return the rows of a file of the package: ``calibration`` or ``validation``."""
    text = (
        resources.files(__name__.rpartition(".")[0])
        .joinpath(f"{name}.csv")
        .read_text(encoding="utf-8")
    )
    return _rows(text.splitlines(), systems, f"{name}.csv", None)


def read_rows(path: str, systems: Mapping[str, System]) -> list[Row]:
    """Return the rows of a file.

    Raises
    ------
    RowError
        If a column or a value is missing, negative or unknown.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise RowError(
            f"Rows (--check) {path} must be a CSV file that can be read, not: {said}"
        ) from None
    return _rows(text.splitlines(), systems, path, Path(path).parent)


def _rows(
    lines: Iterable[str], systems: Mapping[str, System], where: str, folder: Path | None
) -> list[Row]:
    reader = csv.DictReader(lines, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        absent = [name for name in COLUMNS if name not in columns]
        unknown = [name for name in columns if name not in COLUMNS]
        if absent or unknown or len(set(columns)) < len(columns):
            raise RowError(
                f"Rows {where}: columns must be {', '.join(COLUMNS)}, not {', '.join(columns) or 'none'}"
            )
        rows = [_row(record, systems, f"Rows {where}, line {reader.line_num}") for record in reader]
    except csv.Error as error:
        raise RowError(f"Rows {where}, line {reader.line_num}: must be CSV: {error}") from None
    if not rows:
        raise RowError(f"Rows {where} must have at least one row, not none")
    return rows


def _row(record: Mapping[str, str | None], systems: Mapping[str, System], where: str) -> Row:
    if None in record or None in record.values():
        raise RowError(f"{where}: must have {len(COLUMNS)} columns")
    text = {name: (record[name] or "").strip() for name in COLUMNS}
    try:
        system = find_system(systems, text["system"])
        model = load_shape(text["model"])
    except (SystemFileError, ModelFileError) as error:
        raise RowError(f"{where}: {error}") from None
    text["dtype"] = _DTYPES.get(text["dtype"].lower(), text["dtype"].lower())
    for name, allowed in (("dtype", FORMATS), ("metric", METRICS)):
        if text[name] not in allowed:
            raise RowError(
                f"{where}: {name} must be one of {', '.join(allowed)}, not {text[name]!r:.40}"
            )
    job = Job(
        model=model,
        dtype=text["dtype"],
        batch=_count(text, "batch", where),
        prompt_tokens=_count(text, "prompt_tokens", where),
        tokens=_count(text, "output_tokens", where, least=0),
    )
    return Row(
        system=system,
        chips=_count(text, "chips", where),
        job=job,
        metric=text["metric"],
        value=_value(text["value"], where),
        source=text["source"],
        where=where,
    )


def _count(text: Mapping[str, str], name: str, where: str, least: int = 1) -> int:
    said = text[name]
    value = int(said) if said.isascii() and said.isdigit() and len(said) < 11 else -1
    if not least <= value <= _MOST:
        raise RowError(
            f"{where}: {name} must be a whole number from {least} to {_MOST}, not {said!r:.40}"
        )
    return value


def _value(said: str, where: str) -> float:
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise RowError(f"{where}: value must be a number above 0, not {said!r:.40}")
    return value


def predict(row: Row, p: Parameters) -> float:
    """Return what the projection says for a row.

    Raises
    ------
    ProjectionError
        If nobody publishes what it takes; the message begins with the file and the line.
    """
    try:
        return metric(project(row.system, row.job, p, row.chips), row.metric)
    except ProjectionError as error:
        raise ProjectionError(f"{row.where}: {error}") from None


def mean_error(rows: Sequence[Row], p: Parameters) -> float:
    """Return the mean of the magnitudes of the relative errors."""
    return sum(abs(predict(row, p) / row.value - 1) for row in rows) / len(rows)
