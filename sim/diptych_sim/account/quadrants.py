# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of the four quadrants and of requests in three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.account.requests import account_array_request, account_mesh_request
from diptych_sim.cost.requests import WAYS, RequestCosts
from diptych_sim.run.generate import Generation
from diptych_sim.run.quadrants import Point, array_memory, weight_bandwidths

__all__ = ["border_points", "measured_rows", "quadrants_result"]


def quadrants_result(point: Point, *, clock_mhz: float) -> dict[str, Any]:
    """Return ``quadrants``, ``requests`` and what compares them.

    ``decode_ratio`` is how much faster decode is on the mesh than on the array, ``bandwidth_ratio``
    that of their weight bandwidths, and ``reached`` the first over the second.

    Raises
    ------
    AccountError
        If an account contradicts itself.
    """
    array, mesh = account_array_request(point.array), account_mesh_request(point.mesh)
    config = _config(point.machine)
    quadrants = {
        "prefill_array": array["prefill"],
        "prefill_mesh": mesh["prefill"],
        "decode_array": array["decode"],
        "decode_mesh": mesh["decode"],
    }
    for part in quadrants.values():
        if part is not None:
            part["config"] = config
    requests = {
        "array": array["request"],
        "mesh": mesh["request"],
        "split": _split(point.split),
        "split_serial": None if point.serial is None else _split(point.serial),
    }
    for request in requests.values():
        if request is not None:
            _rate(request, clock_mhz)
    taken, held = weight_bandwidths(point.machine)
    ratio = None
    if array["decode"] and mesh["decode"]:
        ratio = array["decode"]["cycles_per_token"] / mesh["decode"]["cycles_per_token"]
    return {
        "quadrants": quadrants,
        "requests": requests,
        "weight_bandwidth": {"array": taken, "mesh": held},
        "bandwidth_ratio": held / taken,
        "decode_ratio": ratio,
        "reached": None if ratio is None else ratio / (held / taken),
    }


def _config(machine: MachineConfig) -> dict[str, Any]:
    return {
        "array": "{}x{}".format(*machine.array),
        "mesh": "{}x{}".format(*machine.mesh),
        "array_macs": machine.pes,
        "mesh_macs": weight_bandwidths(machine)[1],
        "array_memory_bytes": array_memory(machine.array),
        "mesh_memory_bytes": machine.tiles * machine.sram_bytes,
        "sram_bytes": machine.sram_bytes,
        "weight_rows": machine.weight_rows,
        "hbm_bytes_per_cycle": machine.hbm_bytes_per_cycle,
        "hbm_latency": machine.hbm_latency,
        "link_bytes_per_cycle": machine.link_bytes_per_cycle,
        "link_latency": machine.link_latency,
    }


def _split(done: Generation) -> dict[str, Any]:
    """Return a request that both panels answer, as those of one are."""
    accounts = account(done)
    count = len(done.sequences)
    came = [event["cycle"] for event in done.events if event["kind"] == "token"][count - 1 :: count]
    start = next(event["cycle"] for event in done.events if event["kind"] == "started")
    return {
        "matches_golden": done.matches_golden,
        "cycles": came[-1] - start,
        "ttft_cycles": came[0] - start,
        "tpot_cycles": (came[-1] - came[0]) / (len(came) - 1) if len(came) > 1 else None,
        "tokens": len(done.tokens),
        "bytes": accounts["bytes"],
        "macs": accounts["macs"],
        "mac_utilization": accounts["mac_utilization"],
        "link_cycles": accounts["link"]["cycles"],
        "link_cycles_exposed": accounts["link"]["cycles_exposed"],
    }


def _rate(request: dict[str, Any], clock_mhz: float) -> None:
    """Add what a clock and the number of tokens make of a request."""
    seconds = request["cycles"] / (clock_mhz * 1e6)
    request["tokens_per_second"] = request["tokens"] / seconds
    request["macs_per_token"] = request["macs"] / request["tokens"]


def measured_rows(point: Point, requests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the measured points of a border: the whole requests, and their first tokens alone."""
    same = {"prompt_tokens": len(point.prompts[0]), "batch": len(point.prompts)}
    same["link_bytes_per_cycle"] = point.machine.link_bytes_per_cycle
    rows = []
    for tokens, key in {1: "ttft_cycles", point.tokens: "cycles"}.items():
        cycles = {way: requests[way][key] for way in WAYS}
        best = min(WAYS, key=lambda way, cycles=cycles: cycles[way])
        rows.append(same | {"tokens": tokens, "cycles": cycles, "best": best})
    return rows


def border_points(
    costs: RequestCosts,
    *,
    prompts: Sequence[int],
    tokens: Sequence[int],
    batches: Sequence[int],
    links: Sequence[float],
) -> list[dict[str, Any]]:
    """Return the predicted cycles of each way, None where it does not fit, and the best."""
    found = []
    for batch in batches:
        for link in links:
            for count in tokens:
                for prompt in prompts:
                    if prompt + count - 1 > costs.positions:
                        continue
                    ways = costs.request(prompt, count, batch, link)
                    if min(ways) == inf:
                        continue
                    found.append(
                        {
                            "prompt_tokens": prompt,
                            "tokens": count,
                            "batch": batch,
                            "link_bytes_per_cycle": link,
                            "cycles": {
                                way: round(cycles) if cycles < inf else None
                                for way, cycles in ways._asdict().items()
                            },
                            "best": ways.best,
                        }
                    )
    return found
