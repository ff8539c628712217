# SPDX-License-Identifier: BSD-2-Clause
"""The critical path of a routed block, in names of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["Step", "critical_path"]

Step = dict[str, Any]
"""``kind``: register, logic, routing, carry, DSP or RAM; ``name``; ``ns``."""

_KINDS = (
    (re.compile(r"CCU2|CARRY"), "carry"),
    (re.compile(r"MULT18X18|ALU54"), "DSP"),
    (re.compile(r"DP16KD|PDPW16KD|DPR16X4|RAMW"), "RAM"),
)
# Yosys names a cell after the net that it drives and the cell's type, over and over.
_TAIL = re.compile(
    r"_(LUT4|CCU2C|PFUMX|L6MUX21|TRELLIS_FF|MULT18X18D|DP16KD|PDPW16KD|TRELLIS_DPR16X4)(_.*)?$"
)


def critical_path(report: Mapping[str, Any], types: Mapping[str, str]) -> list[Step]:
    """Return the steps of the slowest path from a register to a register.

    Parameters
    ----------
    report : mapping
        What nextpnr's ``--report`` writes.
    types : mapping
        Type of each cell of the netlist.

    Returns
    -------
    list of Step
        In the order of the signal. ``name`` is the net, or the cell that drives it, with what
        synthesis appends taken off. Carries of one adder are one step. The sum of all ``ns`` is
        the period.
    """
    paths = [p for p in report["critical_paths"] if p["from"] == p["to"] != "<async>"]
    if not paths:
        return []
    slowest = max(paths, key=lambda path: sum(step["delay"] for step in path["path"]))
    steps: list[Step] = []
    for part in slowest["path"]:
        kind = _kind(part, types)
        name = _ours(part["net"] if kind == "routing" else part["from"]["cell"])
        ns = part["delay"]
        within = steps and kind in ("carry", "routing") and steps[-1]["kind"] == "carry"
        if within and (kind == "carry" or not ns):
            steps[-1]["ns"] += ns
        elif ns or kind != "routing":
            steps.append({"kind": kind, "name": name, "ns": ns})
    return [step | {"ns": round(step["ns"], 3)} for step in steps]


def _kind(part: Mapping[str, Any], types: Mapping[str, str]) -> str:
    if part["type"] == "routing":
        return "routing"
    cell = part["from"]["cell"]
    text = types.get(cell) or cell
    found = next((kind for pattern, kind in _KINDS if pattern.search(text)), None)
    return found or ("register" if part["type"] in ("clk-to-q", "setup") else "logic")


def _ours(name: str) -> str:
    """Return a name without what synthesis appends, and without marks of Verilog."""
    return _TAIL.sub("", name.replace("\\", "").partition("$CCU2")[0])
