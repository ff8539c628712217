# SPDX-License-Identifier: BSD-2-Clause
"""What came of requests, in numbers: percentiles, goodput, use, and what queueing theory says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych_sim.run.serving.machines import Fleet, Served

__all__ = ["ConservationError", "Limits", "check_conserved", "queueing", "summary"]


_BATCHES = 20


class ConservationError(Exception):
    """Requests, tokens or bytes were lost or made up: a fault of the simulation."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A request is good if it keeps both; None: no limit."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None


def _percentiles(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p90": p90, "p99": p99}


def check_conserved(done: Served, fleet: Fleet) -> dict[str, Any]:
    """Return what went in and what came out.

    Raises
    ------
    ConservationError
        If they differ.
    """
    requests = done.requests
    handed = [r for r in requests if not fleet.unified and r.tokens > 1]
    asked = sum(fleet.prefill.kv_bytes(r.prompt) for r in handed)
    found = {
        "requests": (len(requests), sum(not math.isnan(r.finished) for r in requests)),
        "tokens": (sum(r.tokens for r in requests), done.tokens),
        "link_bytes": (asked, done.link_bytes),
    }
    for what, (before, after) in found.items():
        if not math.isclose(before, after, rel_tol=1e-9):
            raise ConservationError(f"{what} must be {before:,.0f}, not {after:,.0f}")
    return {what: {"in": before, "out": after} for what, (before, after) in found.items()}


def queueing(done: Served, fleet: Fleet, rate: float | None) -> dict[str, Any] | None:
    """Return the mean wait for the first machine beside Pollaczek and Khinchine's, or None.

    They hold for Poisson arrivals at one machine that serves one request after the other: a
    unified one with a batch of 1, or the only prefill machine. ``W = rate E[S^2] / 2 (1 - rho)``.
    ``standard_error`` is that of ``error``: so far off it is by the number of requests alone.
    """
    one = fleet.prefill_machines == 1 and (not fleet.unified or fleet.batch == 1)
    if rate is None or not one:
        return None
    services = np.array(
        [r.finished - r.started if fleet.unified else r.service for r in done.requests]
    )
    use = rate * float(services.mean())
    if use >= 1:
        return None
    theory = rate * float((services**2).mean()) / 2 / (1 - use)
    waits = np.array([r.started - r.arrival for r in done.requests])
    wait = float(waits.mean())
    fixed = float(np.ptp(services)) <= 1e-9 * float(services.mean())
    return {
        "model": "M/D/1" if fixed else "M/G/1",
        "use": use,
        "theory_wait_ms": 1e3 * theory,
        "wait_ms": 1e3 * wait,
        "error": wait / theory - 1,
        "standard_error": _standard_error(waits) / theory,
    }


def _standard_error(waits: np.ndarray) -> float:
    """Return the standard error of the mean of waits, by means of batches: neighbors are alike."""
    count = min(_BATCHES, len(waits))
    if count < 2:
        return 0.0
    means = np.array([part.mean() for part in np.array_split(waits, count)])
    return float(means.std(ddof=1) / math.sqrt(count))


def _good(ttft: np.ndarray, tpot: Sequence[float], limits: Limits) -> int:
    within = np.ones(len(ttft), bool)
    if limits.ttft_ms is not None:
        within &= ttft <= limits.ttft_ms
    if limits.tpot_ms is not None:
        within &= np.nan_to_num(np.array(tpot), nan=0.0) <= limits.tpot_ms
    return int(within.sum())


def summary(done: Served, fleet: Fleet, limits: Limits, rate: float | None) -> dict[str, Any]:
    """Return all figures; times in milliseconds.

    Raises
    ------
    ConservationError
        If something was lost.
    """
    requests = done.requests
    conserved = check_conserved(done, fleet)
    ttft = 1e3 * np.array([r.first - r.arrival for r in requests])
    tpot = [
        1e3 * (r.finished - r.first) / (r.tokens - 1) if r.tokens > 1 else math.nan
        for r in requests
    ]
    span = done.seconds - requests[0].arrival
    sides = {"prefill": done.prefill_busy / (fleet.prefill_machines * span)}
    if fleet.unified:
        sides["decode"] = done.decode_busy / (fleet.prefill_machines * span)
    else:
        sides["decode"] = done.decode_busy / (fleet.decode_machines * span)
    link = fleet.link
    sides["link"] = 0.0 if link is None else done.link_busy / (link.count * span)
    limited = limits.ttft_ms is not None or limits.tpot_ms is not None
    good = _good(ttft, tpot, limits)
    return {
        "requests": len(requests),
        "seconds": span,
        "requests_per_second": len(requests) / span,
        "tokens_per_second": done.tokens / span,
        "ttft_ms": _percentiles(ttft),
        "tpot_ms": _percentiles(np.array([value for value in tpot if not math.isnan(value)])),
        "handoff_ms": _percentiles(1e3 * np.array(done.waits)),
        "goodput_per_second": good / span if limited else None,
        "good_share": good / len(requests) if limited else None,
        "use": sides,
        "mean_batch": done.batch_steps / done.steps if done.steps else None,
        "cached_tokens": done.cached_tokens,
        "conserved": conserved,
        "queueing": queueing(done, fleet, rate),
    }
