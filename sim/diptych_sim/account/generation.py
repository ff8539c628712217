# SPDX-License-Identifier: BSD-2-Clause
"""Turns a generation's counters into cycles by cause and bytes by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from diptych.config import TILE_MACS
from diptych.link.link import LINK_CAUSES
from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.dma_load import LOAD_CAUSES
from diptych.systolic.dma_store import STORE_CAUSES
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.account.decode_operations import decode_layers, decode_operations
from diptych_sim.account.errors import AccountError
from diptych_sim.account.limits import check_limits
from diptych_sim.account.prefill_operations import prefill_layers, prefill_operations
from diptych_sim.account.tiles import add_tiles, bytes_by_level, tile_changes
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.decode.placement import Placement
from diptych_sim.cost.decode import decode_cost, decode_macs
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.run.folder import RunFolder
from diptych_sim.run.generate import Generation

__all__ = ["ENGINE_CAUSES", "AccountError", "account", "decode_bound"]

ENGINE_CAUSES = {
    "matrix": MATRIX_CAUSES,
    "vector": (
        "computing",
        "starting",
        "draining",
        "waiting_accumulator",
        "waiting_parameter",
        "waiting_scratchpad",
        "waiting_vector",
        "idle",
    ),
    "load": LOAD_CAUSES,
    "store": STORE_CAUSES,
}
"""Causes of the engines of the prefill panel; each engine's sum to the cycles."""
RESET_CYCLES = 2
LINK_WORD_BYTES = 4


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


def _prefill(done: Generation, program: PrefillProgram) -> dict[str, Any]:
    machine = done.machine
    start = _event(done, "started")["cycle"]
    cycles = _event(done, "prefill")["cycle"] - start
    end = _event(done, "counters", index=len(done.sequences) - 1)
    matrix = end["parts"]["prefill.panel.matrix"]
    engines = {}
    for engine, names in ENGINE_CAUSES.items():
        counted = end["parts"][f"prefill.panel.{engine}"]
        causes = {name: counted[name] for name in names}
        # Counters run since reset; outside of prefill every engine is idle.
        since_reset = end["cycle"] - RESET_CYCLES
        _check(f"the {engine} engine", causes, since_reset)
        causes["idle"] -= since_reset - cycles
        engines[engine] = causes
    hbm = end["parts"]["prefill.hbm"]
    for what, beats in (("hbm_read", "hbm_beats"), ("hbm_write", "hbm_written_beats")):
        _agree(f"{what} bytes", hbm[what], BEAT_BYTES * end["monitors"][beats])
    rows, columns = machine.array
    macs = matrix["macs"]
    cost = done.prefill_cost
    assert cost is not None
    operations = prefill_operations(
        program,
        _event(done, "commands"),
        array=machine.array,
        start=start,
        weight_rows=machine.weight_rows,
    )
    counted = sum(operation.get("macs", 0) for operation in operations)
    if counted != macs:
        raise AccountError(f"Operations must have the counted {macs} MACs, not {counted}")
    return {
        "cycles": cycles,
        "bound_cycles": cost.bound_cycles,
        "predicted_cycles": cost.predicted_cycles,
        "predicted_hbm_read": cost.predicted_hbm_read,
        "macs": macs,
        "mac_utilization": macs / (cycles * rows * columns),
        "cycles_by_cause": engines["matrix"],
        "cycles_by_engine": engines,
        "bytes": bytes_by_level(
            **hbm,
            **end["parts"]["prefill.panel.scratchpad"],
            **end["parts"]["prefill.panel.accumulators"],
        ),
        "weight_bytes": program.weight_bytes,
        "commands": end["parts"]["prefill.panel.queues"]["commands"],
        "layers": prefill_layers(operations, array=machine.array, cycles=cycles),
        "operations": operations,
    }


def _link(done: Generation) -> dict[str, Any]:
    end = _event(done, "counters", index=len(done.sequences) - 1)
    sent = end["parts"]["link.transmitter"]
    config = done.decode.model.config
    predicted = config.layers * len(done.prompt) * 3 * config.kv_dim
    predicted += 4 * len(done.sequences)
    if sent["link_retries"] == 0 and sent["link_payload"] != predicted:
        raise AccountError(f"Link must carry {predicted} bytes, not {sent['link_payload']}")
    words = end["monitors"]["link_words"]
    _agree("link bytes", sent["link_payload"] + sent["link_framing"], LINK_WORD_BYTES * words)
    handed = _event(done, "prefill")["cycle"]
    exposed = max(0, _event(done, "token", index=len(done.sequences) - 1)["cycle"] - handed)
    causes = {name: end["parts"]["link"][f"link_{name}"] for name in LINK_CAUSES}
    _check("the link", causes, end["cycle"] - RESET_CYCLES)
    busy = causes["sending"] + causes["waiting"]
    return {
        "cycles": busy,
        "cycles_by_cause": {name: causes[name] for name in ("sending", "waiting")},
        "cycles_hidden": busy - min(busy, exposed),
        "cycles_exposed": min(busy, exposed),
        "bytes": bytes_by_level(link=sent["link_payload"] + sent["link_framing"]),
        "payload_bytes": sent["link_payload"],
        "framing_bytes": sent["link_framing"],
        "frames": sent["link_frames"],
        "retries": sent["link_retries"],
        "key_bytes_per_element": 2,
        "value_bytes_per_element": 1,
    }


def decode_bound(model: QuantizedModel, p: Placement, macs: int, *, positions: int) -> int:
    """Return the least cycles of a round: multiplications, or the ways of its dependent reductions.

    Column reductions of a layer: Q K V, maximum of scores, sums of V, gate and up, and of each norm
    by its own row the largest magnitude. Row reductions: output projection, down projection, and without
    floors the hidden maximum. Those of attention go from and to rows with some of ``positions``; along rows
    only columns with heads have contexts, and are waited for next. And for a round: embedding and best
    token in rows, logits in columns, and the last norm as the others.
    """
    layers = model.config.layers
    to_row, to_column = p.rows // 2, p.columns // 2
    seen = p.positions.reach(positions) if p.rows_apart else to_row
    attention = 2 * to_row + 4 * seen
    layer = attention + 2 * to_row + 2 * (to_column + p.column_reach)
    by_own = [0, *model.norm_tops].count(0)
    without_floor = sum(not w.hidden_floor for w in model.layers)
    ways = layers * layer + (by_own + 1) * 2 * to_row + (without_floor + 2) * 2 * to_column
    return max(-(-macs // (p.rows * p.columns * TILE_MACS)), ways)


def _spread(counts: Sequence[int]) -> dict[str, float]:
    """Say how evenly something is dealt; ``spread`` is the largest distance from the mean in it."""
    mean = sum(counts) / len(counts)
    away = max(max(counts) - mean, mean - min(counts))
    return {"min": min(counts), "mean": mean, "max": max(counts), "spread": away / (mean or 1)}


def _decode(done: Generation, recorded: RunFolder | None) -> dict[str, Any] | None:
    program = done.decode
    sequences, ends = len(program.tokens), program.round_ends
    tokens = ends[-1] + 1 - sequences
    if not tokens:
        return None
    first = _event(done, "counters", index=ends[0])
    last = _event(done, "counters", index=ends[-1])
    cycles = last["cycle"] - first["cycle"]
    changes = tile_changes(first["tiles"], last["tiles"], cycles)
    # Of all cycles: rows whose loads are short begin before the first tokens count as taken.
    for index, (tile, macs) in enumerate(zip(last["tiles"], decode_macs(program), strict=True)):
        if tile["macs"] != macs % 2**32:  # counters wrap
            raise AccountError(
                f"Tile {index} must count the {macs} MACs of its program, not {tile['macs']}"
            )
    total = add_tiles(changes)
    rounds = len(ends) - 1
    columns = program.placement.columns
    order = sorted(range(len(changes)), key=lambda index: -changes[index]["computing"])
    busiest, quietest = (
        {"row": index // columns, "column": index % columns}
        | {name: changes[index][name] for name in ("computing", "macs")}
        for index in (order[0], order[-1])
    )
    account = {
        "cycles": cycles,
        "tiles": {"count": len(changes), "busiest": busiest, "least_busy": quietest},
        "cycles_per_token": cycles / tokens,
        "predicted_cycles": decode_cost(program),
        "bound_cycles": rounds
        * decode_bound(
            program.model,
            program.placement,
            total["macs"] // rounds,
            positions=1 + min(program.prompt_tokens),
        ),
        "mac_utilization": total["macs"] / (cycles * len(changes) * TILE_MACS),
        "macs_by_tile": _spread([tile["macs"] for tile in changes]),
        **total,
    }
    if recorded is not None:
        account["operations"] = decode_operations(recorded)
        account["layers"] = decode_layers(account["operations"], len(changes))
    return account


def _whole(
    done: Generation, prefill: dict[str, Any], decode: dict[str, Any] | None
) -> dict[str, int]:
    """Say of each cycle of a run what it went to.

    Until the prefill program ends, what the matrix engine did; then, until every first token is
    out, the link; then what the mean tile did.
    """
    causes = {f"prefill_{name}": count for name, count in prefill["cycles_by_cause"].items()}
    index = len(done.sequences) - 1
    first = _event(done, "token", index=index)["cycle"] - _event(done, "prefill")["cycle"]
    # The first tokens may be out before the program has ended.
    causes["link_exposed"] = max(0, first)
    early = max(0, -first)
    # By then the matrix engine is idle, or waits for the link.
    for name in ("prefill_idle", "prefill_waiting_link"):
        cut = min(early, causes[name])
        causes[name] -= cut
        early -= cut
    causes["prefill_draining"] -= early
    return causes | _mean_tile(decode)


def _mean_tile(decode: dict[str, Any] | None) -> dict[str, int]:
    """Return the cycles of decode by cause of the mean tile, rounded to whole cycles."""
    if not decode:
        return {}
    cycles = decode["cycles"]
    tiles = sum(decode["cycles_by_cause"].values())
    shares = {name: cycles * n for name, n in decode["cycles_by_cause"].items()}
    whole = {name: share // tiles for name, share in shares.items()}
    missing = cycles - sum(whole.values())
    for name in sorted(shares, key=lambda name: -(shares[name] % tiles))[:missing]:
        whole[name] += 1
    return {f"decode_{name}": count for name, count in whole.items()}


def _times(done: Generation, start: int, clock_mhz: float) -> dict[str, Any]:
    """Return when tokens came: TTFT is None when prefill did not run."""
    second = clock_mhz * 1e6
    cycles = [event["cycle"] - start for event in done.events if event["kind"] == "token"]
    ttft = cycles[0] if done.prefill is not None else None
    tpot = _mean([each.cycles_per_token for each in done.sequences])
    return {
        "token_cycles": [cycles[0], *(b - a for a, b in pairwise(cycles))],
        "ttft_cycles": ttft,
        "tpot_cycles": tpot,
        "ttft_seconds": ttft and ttft / second,
        "tpot_seconds": tpot and tpot / second,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value]
    return sum(known) / len(known) if known else None


def account(
    done: Generation, recorded: RunFolder | None = None, *, clock_mhz: float = 1000.0
) -> dict[str, Any]:
    """Return the accounts of a generation: whole, ``prefill``, ``link`` and ``decode``.

    ``cycles_by_cause`` of decode are tile cycles, those of prefill cycles of the matrix engine
    (``cycles_by_engine`` has the others), those of the whole as :func:`_whole` says.
    ``mac_utilization`` of the whole is the share of what the multipliers of each panel could have
    done while it worked. A level of ``bytes`` is None where a part does not have it. With what was
    ``recorded``, decode has ``operations``, of :func:`.decode_operations`, and ``layers``, of
    :func:`.decode_layers`. Seconds are cycles at ``clock_mhz``. When decode ran alone, the whole is
    decode, and ``prefill`` and ``link`` are None.

    Raises
    ------
    AccountError
        If causes do not sum to the cycles, the link's bytes are not those of the KV cache, or
        counters and monitors disagree.
    """
    decode = _decode(done, recorded)
    start = _event(done, "started")["cycle"]
    if done.prefill is None:
        assert decode is not None
        causes = _mean_tile(decode)
        _check("the run", causes, decode["cycles"])
        common = ("cycles", "bound_cycles", "macs", "mac_utilization")
        result = {
            **{name: decode[name] for name in common},
            "cycles_by_cause": causes,
            **_times(done, start, clock_mhz),
            "bytes": decode["bytes"],
            "prefill": None,
            "link": None,
            "decode": decode,
        }
        check_limits("the run", result)
        return result
    prefill, link = _prefill(done, done.prefill), _link(done)
    parts: Sequence[Mapping[str, Any]] = [p for p in (prefill, link, decode) if p]
    levels = {
        name: next((p["bytes"][name] for p in parts if p["bytes"][name] is not None), None)
        for name in prefill["bytes"]
    }
    end = _event(done, "token", index=len(done.tokens) - 1)["cycle"]
    counters = _event(done, "counters", index=len(done.tokens) - 1)
    causes = _whole(done, prefill, decode)
    _check("the run", causes, end - start)
    machine = done.machine
    possible = prefill["cycles"] * machine.pes
    possible += (decode["cycles"] if decode else 0) * machine.tiles * TILE_MACS
    macs = sum(p.get("macs", 0) for p in parts)
    result = {
        "cycles": end - start,
        "bound_cycles": sum(p.get("bound_cycles", 0) for p in parts),
        "macs": macs,
        "mac_utilization": macs / possible,
        "cycles_by_cause": causes,
        "windows_checked": counters["windows"],
        "observed": counters["observed"],
        **_times(done, start, clock_mhz),
        "bytes": levels,
        "prefill": prefill,
        "link": link,
        "decode": decode,
    }
    check_limits("the run", result)
    return result
