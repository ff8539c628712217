# SPDX-License-Identifier: BSD-2-Clause
"""Turns a generation's counters into cycles by cause and bytes by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych.memory.axi import BEAT_BYTES
from diptych.mesh.core import CAUSES as TILE_CAUSES
from diptych.mesh.router import DIRECTIONS
from diptych_sim.compiler.placement import Placement
from diptych_sim.generate import Generation, Machine
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["AccountError", "account"]

MATRIX_CAUSES = (
    "computing",
    "shifting_weights",
    "waiting_weights",
    "waiting_activations",
    "draining",
    "idle",
)
WAVELET_BYTES = 4
LINK_WORD_BYTES = 4


class AccountError(Exception):
    """Counters contradict each other."""


def _event(done: Generation, kind: str, **fields: Any) -> dict[str, Any]:
    for event in done.events:
        if event["kind"] == kind and all(event[k] == v for k, v in fields.items()):
            return event
    raise AccountError(f"Simulation reported no {kind}")


def _check(what: str, causes: Mapping[str, int], cycles: int) -> None:
    total = sum(causes.values())
    if total != cycles:
        raise AccountError(f"Causes of {what} must sum to {cycles} cycles, not {total}")


def _agree(what: str, counted: int, seen: int) -> None:
    if counted != seen:
        raise AccountError(f"Counter of {what} must agree with the monitor's {seen}, not {counted}")


def _bytes(**known: int | None) -> dict[str, int | None]:
    levels = (
        "hbm_read hbm_write scratchpad_read scratchpad_write accumulator_read accumulator_write "
        "sram_read sram_write fabric_hops link"
    )
    return {name: known.get(name) for name in levels.split()}


def _prefill(done: Generation, model: QuantizedModel, machine: Machine) -> dict[str, Any]:
    assert done.prefill is not None
    start = _event(done, "started")["cycle"]
    cycles = _event(done, "prefill")["cycle"] - start
    end = _event(done, "counters", index=0)
    matrix = end["parts"]["prefill.panel.matrix"]
    causes = {name: matrix[name] for name in MATRIX_CAUSES}
    # Counters run since reset, which ends 2 cycles after the start of time.
    _check("the matrix engine", causes, end["cycle"] - 2)
    causes["idle"] -= end["cycle"] - 2 - cycles
    hbm_read = end["parts"]["prefill.hbm"]["hbm_read"]
    _agree("HBM bytes read", hbm_read, BEAT_BYTES * end["monitors"]["hbm_beats"])
    rows, columns = machine.array
    macs = matrix["macs"]
    return {
        "cycles": cycles,
        "bound_cycles": -(-macs // (rows * columns)),
        "macs": macs,
        "mac_utilization": macs / (cycles * rows * columns),
        "cycles_by_cause": causes,
        "bytes": _bytes(
            hbm_read=hbm_read,
            hbm_write=0,
            **end["parts"]["prefill.panel.scratchpad"],
            **end["parts"]["prefill.panel.accumulators"],
        ),
        "weight_bytes": done.prefill.weight_bytes,
        "commands": end["parts"]["prefill.panel.queues"]["commands"],
    }


def _link(done: Generation, model: QuantizedModel) -> dict[str, Any]:
    end = _event(done, "counters", index=0)
    sent = end["parts"]["link.transmitter"]
    config = model.config
    predicted = config.layers * len(done.prompt) * 3 * config.kv_dim + 4
    if sent["link_retries"] == 0 and sent["link_payload"] != predicted:
        raise AccountError(f"Link must carry {predicted} bytes, not {sent['link_payload']}")
    words = end["monitors"]["link_words"]
    _agree("link bytes", sent["link_payload"] + sent["link_framing"], LINK_WORD_BYTES * words)
    handed = _event(done, "prefill")["cycle"]
    exposed = max(0, _event(done, "token", index=0)["cycle"] - handed)
    busy = end["parts"]["link"]["link_busy"]
    return {
        "cycles": busy,
        "cycles_by_cause": {"hidden": busy - min(busy, exposed), "exposed": min(busy, exposed)},
        "bytes": _bytes(link=sent["link_payload"] + sent["link_framing"]),
        "payload_bytes": sent["link_payload"],
        "framing_bytes": sent["link_framing"],
        "frames": sent["link_frames"],
        "retries": sent["link_retries"],
        "key_bytes_per_element": 2,
        "value_bytes_per_element": 1,
    }


def _bound(model: QuantizedModel, p: Placement, macs: int) -> int:
    """Cycles of a token: multiplications, or the way of its dependent reductions and back.

    Column reductions of a layer: two norms, Q K V, maximum of scores, sums of V, gate and up. Row
    reductions: output projection, hidden maximum, down projection. And for a token: embedding and
    best token in rows, last norm and logits in columns.
    """
    layers = model.config.layers
    column, row = 2 * (p.rows // 2), 2 * (p.columns // 2)
    ways = layers * (6 * column + 3 * row) + 2 * (column + row)
    return max(-(-macs // (p.rows * p.columns * 8)), ways)


def _decode(done: Generation, model: QuantizedModel) -> dict[str, Any] | None:
    if len(done.tokens) < 2:
        return None
    assert done.decode is not None
    first = _event(done, "counters", index=0)
    last = _event(done, "counters", index=len(done.tokens) - 1)
    cycles = last["cycle"] - first["cycle"]
    names = first["tiles"][0]
    changes: list[dict[str, int]] = [
        {name: (after[name] - before[name]) % 2**32 for name in names}
        for before, after in zip(first["tiles"], last["tiles"], strict=True)
    ]
    for index, tile in enumerate(changes):
        _check(f"tile {index}", {cause: tile[cause] for cause in TILE_CAUSES}, cycles)
    total: dict[str, int] = {name: sum(tile[name] for tile in changes) for name in names}
    tokens = len(done.tokens) - 1
    return {
        "cycles": cycles,
        "cycles_per_token": cycles / tokens,
        "bound_cycles": tokens * _bound(model, done.decode.placement, total["macs"] // tokens),
        "macs": total["macs"],
        "mac_utilization": total["macs"] / (cycles * len(changes) * 8),
        "cycles_by_cause": {cause: total[cause] for cause in TILE_CAUSES},
        "bytes": _bytes(
            sram_read=total["sram_read"],
            sram_write=total["sram_write"],
            fabric_hops=WAVELET_BYTES * sum(total[way] for way in DIRECTIONS),
        ),
    }


def account(done: Generation, model: QuantizedModel, machine: Machine) -> dict[str, Any]:
    """Return the accounts of a generation: whole, ``prefill``, ``link`` and ``decode``.

    ``cycles_by_cause`` of decode are tile cycles, those of prefill cycles of the matrix engine.
    Levels of ``bytes`` that are not counted yet are None.

    Raises
    ------
    AccountError
        If causes do not sum to the cycles, or the link's bytes are not those of the KV cache.
    """
    prefill = _prefill(done, model, machine)
    link = _link(done, model)
    decode = _decode(done, model)
    parts: Sequence[Mapping[str, Any]] = [p for p in (prefill, link, decode) if p]
    levels = {
        name: next((p["bytes"][name] for p in parts if p["bytes"][name] is not None), None)
        for name in prefill["bytes"]
    }
    start = _event(done, "started")["cycle"]
    end = _event(done, "token", index=len(done.tokens) - 1)["cycle"]
    return {
        "cycles": end - start,
        "bound_cycles": sum(p.get("bound_cycles", 0) for p in parts),
        "macs": sum(p.get("macs", 0) for p in parts),
        "ttft_cycles": _event(done, "token", index=0)["cycle"] - start,
        "tpot_cycles": decode and decode["cycles_per_token"],
        "bytes": levels,
        "prefill": prefill,
        "link": link,
        "decode": decode,
    }
