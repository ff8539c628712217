# SPDX-License-Identifier: BSD-2-Clause
"""Where the cycles of decode went: by layer and operation.

The program of one tile, the reference, tells when the mesh goes from one operation to another; at
that time the counters of all tiles are read. What they gain in between belongs to the operation, so
that operations sum to the whole exactly. Other tiles may be some cycles behind or ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.config import TILE_MACS
from diptych.mesh.core import CAUSES
from diptych_sim.account.tiles import fabric_bytes
from diptych_sim.run.folder import RunFolder

__all__ = ["DecodeWindow", "decode_layers", "decode_operations", "decode_windows"]

STARTING = "starting"
"""Name of the time before the first operation: the token travels into the mesh."""


@dataclass(frozen=True)
class DecodeWindow:
    """The time from one mark to the next, cut where rounds end.

    ``layer`` is None outside of layers. Cycles count from reset.
    """

    round: int
    layer: int | None
    operation: str
    start: int
    end: int


def decode_windows(run: RunFolder) -> Iterator[DecodeWindow]:
    """Yield the operations of the reference tile, in order, from the first tokens to the last."""
    plan = run.start["plan"]
    if plan is None:
        return
    ends = run.round_cycles
    marks = [mark for event in run.all("operations") for mark in event["marks"]]
    if not ends:
        return
    begin, number = ends[0], 1
    layer, piece = None, -1
    name = STARTING
    for cycle, now in [*marks, (1 << 62, -1)]:
        while number < len(ends) and ends[number] <= cycle:
            if begin < ends[number]:
                yield DecodeWindow(number, layer, name, begin, ends[number])
            begin = ends[number]
            number += 1
        if number == len(ends):
            return
        if cycle > begin:
            yield DecodeWindow(number, layer, name, begin, cycle)
            begin = cycle
        _, name, looped = plan["pieces"][now]
        if not looped:
            layer = None
        elif layer is None:
            layer = 0
        elif now <= piece:
            layer += 1
        piece = now


def decode_operations(run: RunFolder) -> list[dict[str, Any]]:
    """Return what each operation of each layer took, in program order.

    Each has ``layer`` (None outside of layers), ``operation``, ``engine`` ("tiles"), ``windows``
    (how often it ran), ``start`` and ``end`` (the first window, cycles since the start of the run), ``cycles`` (of
    all windows), ``cycles_by_cause`` (tile cycles), ``macs``, and ``bytes`` (``sram_read``,
    ``sram_write``, ``fabric_hops``), over the rounds of the plan's ``detailed``.
    """
    plan, mesh, started = run.start["plan"], run.mesh, run.first("started")
    if plan is None or mesh is None or started is None:
        return []
    at = {int(cycle): index for index, cycle in enumerate(mesh.cycles)}
    totals = mesh.values.sum(axis=1)
    detailed = set(plan["detailed"])
    found: dict[tuple[int | None, str], dict[str, Any]] = {}
    sums: dict[tuple[int | None, str], Any] = {}
    for window in decode_windows(run):
        first, last = at.get(window.start), at.get(window.end)
        if window.round not in detailed or first is None or last is None:
            continue
        key = (window.layer, window.operation)
        if key not in found:
            found[key] = {
                "layer": window.layer,
                "operation": window.operation,
                "engine": "tiles",
                "windows": 0,
                "start": window.start - started["cycle"],
                "end": window.end - started["cycle"],
                "cycles": 0,
            }
            sums[key] = np.zeros(len(mesh.names), dtype=np.int64)
        found[key]["windows"] += 1
        found[key]["cycles"] += window.end - window.start
        sums[key] += totals[last] - totals[first]
    for key, operation in found.items():
        count = dict(zip(mesh.names, map(int, sums[key]), strict=True))
        operation["cycles_by_cause"] = {cause: count[cause] for cause in CAUSES}
        operation["macs"] = count["macs"]
        operation["bytes"] = {
            "sram_read": count["sram_read"],
            "sram_write": count["sram_write"],
            "fabric_hops": fabric_bytes(count),
        }
    return list(found.values())


def decode_layers(operations: Sequence[Mapping[str, Any]], tiles: int) -> list[dict[str, Any]]:
    """Return what each layer took, over the tokens of :func:`decode_operations`.

    Each has ``layer``, ``cycles``, ``macs``, ``mac_utilization`` (of all tiles while they are in
    the layer) and ``cycles_by_cause`` (tile cycles).
    """
    layers = []
    for index in sorted({o["layer"] for o in operations if o["layer"] is not None}):
        inner = [o for o in operations if o["layer"] == index]
        cycles, macs = (sum(o[name] for o in inner) for name in ("cycles", "macs"))
        layers.append(
            {
                "layer": index,
                "cycles": cycles,
                "macs": macs,
                "mac_utilization": macs / (cycles * tiles * TILE_MACS),
                "cycles_by_cause": {
                    cause: sum(o["cycles_by_cause"][cause] for o in inner) for cause in CAUSES
                },
            }
        )
    return layers
