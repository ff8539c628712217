# SPDX-License-Identifier: BSD-2-Clause
"""Requests: drawn at random, or read from a trace."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["LENGTHS", "Request", "TraceError", "poisson_requests", "read_trace"]

LENGTHS = ("fixed", "geometric")
"""How lengths are drawn: all the mean, or geometric with that mean."""
_REQUIRED = ("arrival", "prompt_tokens", "output_tokens")
_OPTIONAL = ("prefix", "prefix_tokens")
_MOST = 10**7
_LONGEST = 1e9
"""Seconds of a trace; with more of them the times of tokens would be rounded."""
_BLOCK = 64
"""Numbers whose sum is drawn; a power of two."""
_ROWS = 3
"""Gaps, prompts, answers."""


class TraceError(ValueError):
    """A trace cannot be used: one line that names file, line and column."""


@dataclass(slots=True)
class Request:
    """A request, and when what happened to it; times in seconds from the start."""

    arrival: float
    prompt: int
    tokens: int
    prefix: str = ""
    prefix_tokens: int = 0
    started: float = math.nan
    """When a machine took it."""
    service: float = 0.0
    """Seconds of its prefill."""
    first: float = math.nan
    """First token."""
    arrived: float = math.nan
    """KV cache on the decode side."""
    finished: float = math.nan


def poisson_requests(
    count: int,
    rate: float,
    seed: int,
    *,
    prompt: int,
    tokens: int,
    lengths: str = "fixed",
    prefix_tokens: int = 0,
) -> list[Request]:
    """Return requests of a Poisson process of ``rate`` a second.

    Gaps and lengths are as :func:`_exponentials` draws them, so that means come near to those of far
    more requests. With ``prefix_tokens`` all prompts begin with the same text, as far as they are longer.
    """
    gaps, *of_lengths = _exponentials(np.random.default_rng(seed), count)
    arrivals = np.cumsum(gaps / rate)

    def draw(mean: int, drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        if lengths == "fixed" or mean == 1:
            return np.full(count, mean)
        return np.maximum(1, np.ceil(drawn / -np.log1p(-1 / mean))).astype(np.int64)

    prompts, answers = (
        draw(mean, drawn).tolist() for mean, drawn in zip((prompt, tokens), of_lengths, strict=True)
    )
    return [
        Request(at, n, m, "shared" if 0 < prefix_tokens < n else "", min(prefix_tokens, n - 1))
        for at, n, m in zip(arrivals.tolist(), prompts, answers, strict=True)
    ]


def _exponentials(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return three rows of ``count`` numbers, each of an exponential distribution of mean 1.

    Waits come from sums of many gaps and lengths. So the sum of each block of numbers is drawn first,
    and then how it is shared among its halves, and their halves; all of that for all blocks by a
    scrambled Sobol sequence, that each of these draws is spread evenly over its distribution. The
    blocks are shuffled.
    """
    # Not above: they take a second to import.
    from scipy.special import betaincinv, gammaincinv
    from scipy.stats import qmc

    blocks = -(-count // _BLOCK)
    sequence = qmc.Sobol(_ROWS * _BLOCK, scramble=True, rng=rng)
    uniform = sequence.random_base2((blocks - 1).bit_length())[:blocks]
    rng.shuffle(uniform)
    rows = []
    for row in np.clip(uniform, 1e-12, 1 - 1e-12).reshape(blocks, _BLOCK, _ROWS).transpose(2, 0, 1):
        sums = gammaincinv(_BLOCK, row[:, :1])
        while (parts := sums.shape[1]) < _BLOCK:
            half = _BLOCK // parts // 2
            first = sums * betaincinv(half, half, row[:, parts : 2 * parts])
            sums = np.stack([first, sums - first], axis=2).reshape(blocks, -1)
        rows.append(sums.reshape(-1)[:count])
    return np.array(rows)


def read_trace(path: str) -> list[Request]:
    """Return the requests of a CSV file, in the order of their arrival; the first one arrives at 0.

    Columns: ``arrival`` in seconds by any clock, ``prompt_tokens``, ``output_tokens``; and, for a prefix cache,
    ``prefix``, a name that prompts with the same beginning share, and its ``prefix_tokens``.

    Raises
    ------
    TraceError
        If a column or value is missing, negative or no number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise TraceError(f"Trace (--trace) {path} must be a CSV file, not: {said}") from None
    reader = csv.DictReader(lines, strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if not set(_REQUIRED) <= set(names) or not set(names) <= {*_REQUIRED, *_OPTIONAL}:
            raise TraceError(
                f"Trace {path}: columns must be {', '.join(_REQUIRED)}, and may be "
                f"{' and '.join(_OPTIONAL)}, not {', '.join(names) or 'none'}"
            )
        found = [_request(record, f"Trace {path}, line {reader.line_num}") for record in reader]
    except csv.Error as error:
        raise TraceError(f"Trace {path}, line {reader.line_num}: must be CSV: {error}") from None
    if not found:
        raise TraceError(f"Trace {path} must have at least one request, not none")
    found.sort(key=lambda request: request.arrival)
    first, last = found[0].arrival, found[-1].arrival
    if last - first > _LONGEST:
        raise TraceError(
            f"Trace {path}: arrivals must be within {_LONGEST:g} s, not from {first:g} to {last:g}"
        )
    # Clocks may count from long ago, and leave no digits for what a token takes.
    for request in found:
        request.arrival -= first
    return found


def _request(record: Mapping[str, str | None], where: str) -> Request:
    if None in record or None in record.values():
        raise TraceError(f"{where}: must have as many values as there are columns")
    text = {name: (value or "").strip() for name, value in record.items()}

    def number(name: str, least: int) -> int:
        said = text[name]
        value = int(said) if said.isascii() and said.isdigit() and len(said) < 9 else -1
        if not least <= value <= _MOST:
            raise TraceError(
                f"{where}: {name} must be a whole number from {least} to {_MOST}, not {said!r:.40}"
            )
        return value

    try:
        arrival = float(text["arrival"])
    except ValueError:
        arrival = math.nan
    if not 0 <= arrival < math.inf:
        raise TraceError(f"{where}: arrival must be at least 0 s, not {text['arrival']!r:.40}")
    prompt = number("prompt_tokens", 1)
    shared = number("prefix_tokens", 0) if text.get("prefix_tokens") else 0
    if shared >= prompt:
        raise TraceError(f"{where}: prefix_tokens must be below {prompt}, the prompt, not {shared}")
    prefix = text.get("prefix", "") if shared else ""
    return Request(arrival, prompt, number("output_tokens", 1), prefix, shared)
