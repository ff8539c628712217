# SPDX-License-Identifier: BSD-2-Clause
"""Derived files of a run folder: tables and timeline, made from its records."""

from __future__ import annotations

from pathlib import Path

from diptych_sim.report.layers import layers_csv
from diptych_sim.report.operations import operation_rows, operations_csv
from diptych_sim.report.timeline import write_timeline
from diptych_sim.report.whole_file import write_whole
from diptych_sim.run.folder import RunFolder

__all__ = ["DERIVED", "REPORT", "write_derived"]

TIMELINE = "trace.perfetto-trace"
OPERATIONS = "operations.csv"
LAYERS = "prefill_layers.csv"
DERIVED = (TIMELINE, OPERATIONS, LAYERS)
REPORT = "report.html"


def write_derived(run: RunFolder) -> list[Path]:
    """Write the timeline of a run, and its tables if it is complete; return the files."""
    written = [run.path / TIMELINE]
    write_timeline(run, written[0])
    if run.result is not None:
        tables = {OPERATIONS: operations_csv(operation_rows(run.result))}
        if run.result["prefill"] is not None:
            tables[LAYERS] = layers_csv(run.result["prefill"])
        for name, text in tables.items():
            write_whole(run.path / name, text)
            written.append(run.path / name)
    return written
