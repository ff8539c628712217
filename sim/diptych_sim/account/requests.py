# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of requests that one panel answers alone: prefill, decode, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.config import TILE_MACS
from diptych.memory.axi import BEAT_BYTES
from diptych_sim.account.errors import AccountError
from diptych_sim.account.generation import ENGINE_CAUSES, decode_bound
from diptych_sim.account.limits import check_limits
from diptych_sim.account.tiles import add_tiles, bytes_by_level, tile_changes
from diptych_sim.cost.decode import decode_hops, decode_macs, decode_rounds
from diptych_sim.run.array_request import ArrayRequest
from diptych_sim.run.mesh_request import MeshRequest

__all__ = ["account_array_request", "account_mesh_request"]

_RESET_CYCLES = 2


def account_array_request(done: ArrayRequest) -> dict[str, Any]:
    """Return the accounts of requests on the array: ``prefill``, ``decode`` and ``request``.

    ``cycles_by_cause`` are those of the matrix engine. Decode is from the end of the prompts'
    program to that of the last token's, with the cycles in which the host starts the next one; it
    is None if prefill writes all tokens.

    Raises
    ------
    AccountError
        If causes do not sum to the cycles, or counters and monitors disagree.
    """
    measured = done.measured
    start, *ends = [measured.starts[0], *measured.ends]
    zero = {block: dict.fromkeys(counters, 0) for block, counters in measured.parts[0].items()}
    first, last = measured.parts[0], measured.parts[-1]
    prefill = _panel_part(done, zero, first, ends[0] - start, slice(0, 1))
    decode = None
    if len(ends) > 1:
        decode = _panel_part(done, first, last, ends[-1] - ends[0], slice(1, None))
        decode["host_cycles"] = sum(
            after - before for before, after in zip(ends, measured.starts[1:], strict=False)
        )
        decode["cycles_per_token"] = decode["cycles"] / decode["tokens"]
    for level, number in (("hbm_read", 0), ("hbm_write", 1)):
        counted, beats = last["hbm"][level], measured.beats[-1][number]
        if counted != BEAT_BYTES * beats:
            raise AccountError(
                f"Counter of {level} must agree with the monitor's {BEAT_BYTES * beats}, "
                f"not {counted}"
            )
    parts = {"prefill": prefill, "decode": decode, "observed": measured.observed}
    came = [max(cycles) for cycles in measured.token_cycles]
    result = parts | {"request": _request(parts, start, came, len(done.prompts))}
    check_limits("the request on the array", result)
    return result


def _panel_part(
    done: ArrayRequest,
    before: Mapping[str, Mapping[str, int]],
    after: Mapping[str, Mapping[str, int]],
    cycles: int,
    programs: slice,
) -> dict[str, Any]:
    """Return what some programs did, between counters before and after them."""
    change = {
        block: {name: counters[name] - before[block][name] for name in counters}
        for block, counters in after.items()
    }
    engines = {}
    for engine, names in ENGINE_CAUSES.items():
        causes = {name: change[engine][name] for name in names}
        if programs.start == 0:
            causes["idle"] -= sum(causes.values()) - cycles  # since reset nothing else
        if sum(causes.values()) != cycles or causes["idle"] < 0:
            raise AccountError(
                f"Causes of the {engine} engine must sum to {cycles} cycles, "
                f"not {sum(causes.values())}"
            )
        engines[engine] = causes
    costs = done.costs[programs]
    written = len(costs) * len(done.prompts)
    macs = change["matrix"]["macs"]
    ran = [done.program.prefill, *done.program.steps][programs]
    return {
        "matches_golden": done.matches_golden,
        "cycles": cycles,
        "bound_cycles": sum(cost.bound_cycles for cost in costs),
        "predicted_cycles": sum(cost.predicted_cycles for cost in costs),
        "predicted_hbm_read": sum(cost.predicted_hbm_read for cost in costs),
        "predicted_hbm_write": sum(cost.predicted_hbm_write for cost in costs),
        "macs": macs,
        "mac_utilization": macs / (cycles * done.machine.pes),
        "cycles_by_cause": engines["matrix"],
        "cycles_by_engine": engines,
        "bytes": bytes_by_level(**change["hbm"], **change["scratchpad"], **change["accumulators"]),
        "weight_bytes": sum(program.weight_bytes for program in ran),
        "tokens": written,
        "wall_seconds": done.run.seconds,
    }


def account_mesh_request(done: MeshRequest) -> dict[str, Any]:
    """Return the accounts of requests on the mesh: ``prefill``, ``decode`` and ``request``.

    ``cycles_by_cause`` are tile cycles. Of prefill, ``fabric_hops`` has what is left of the load, too, which
    ``predicted_fabric_hops`` leaves out. Prefill is until the first tokens of all sequences are
    out; decode is None if there are no others.

    Raises
    ------
    AccountError
        If the causes of a tile do not sum to the cycles, or it counts other MACs than its program
        has.
    """
    counters = [event for event in done.events if event["kind"] == "counters"]
    start, first, *others = counters
    rounds = decode_rounds(done.program)
    read = len(done.prompts[0])
    prefill = _mesh_part(done, start, first, range(read), rounds)
    decode = None
    if others:
        decode = _mesh_part(done, first, others[-1], range(read, len(rounds)), rounds)
        decode["cycles_per_token"] = decode["cycles"] / decode["tokens"]
    count = len(done.prompts)
    came = [event["cycle"] for event in done.written][count - 1 :: count]
    parts = {"prefill": prefill, "decode": decode}
    result = parts | {"request": _request(parts, start["cycle"], came, count)}
    check_limits("the request on the mesh", result)
    return result


def _mesh_part(
    done: MeshRequest,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    part: range,
    rounds: list[int],
) -> dict[str, Any]:
    """Return what the tiles did in some rounds, between counters before and after them."""
    cycles = after["cycle"] - before["cycle"]
    changes = tile_changes(before["tiles"], after["tiles"], cycles)
    macs = decode_macs(done.program, part)
    for index, (tile, expected) in enumerate(zip(changes, macs, strict=True)):
        if tile["macs"] != expected:
            raise AccountError(
                f"Tile {index} must count the {expected} MACs of its program, not {tile['macs']}"
            )
    total = add_tiles(changes)
    place, model = done.program.placement, done.program.model
    written = after["index"] - before["index"]
    return {
        "matches_golden": done.matches_golden,
        "cycles": cycles,
        "bound_cycles": len(part)
        * decode_bound(model, place, total["macs"] // len(part), positions=1 + part.start),
        "predicted_cycles": sum(rounds[part.start : part.stop]),
        "predicted_fabric_hops": decode_hops(done.program, part),
        **total,
        "mac_utilization": total["macs"] / (cycles * len(changes) * TILE_MACS),
        "tokens": written,
        "wall_seconds": done.run.seconds,
    }


def _request(
    parts: Mapping[str, Any], start: int, came: list[int], sequences: int
) -> dict[str, Any]:
    """Return the whole request; ``came``: when the last of each round's tokens was there."""
    ran = [part for part in (parts["prefill"], parts["decode"]) if part]
    levels = {
        name: sum(part["bytes"][name] for part in ran)
        if ran[0]["bytes"][name] is not None
        else None
        for name in ran[0]["bytes"]
    }
    cycles = came[-1] - start
    possible = sum(part["macs"] / part["mac_utilization"] for part in ran)
    macs = sum(part["macs"] for part in ran)
    return {
        "matches_golden": all(part["matches_golden"] for part in ran),
        "cycles": cycles,
        "ttft_cycles": came[0] - start,
        "tpot_cycles": (came[-1] - came[0]) / (len(came) - 1) if len(came) > 1 else None,
        "tokens": sequences * len(came),
        "bytes": levels,
        "macs": macs,
        "mac_utilization": macs / possible,
    }
