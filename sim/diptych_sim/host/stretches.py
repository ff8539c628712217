# SPDX-License-Identifier: BSD-2-Clause
"""What signals were in a stretch of cycles, as arrays: for what only watches an engine of words.

Cycles are those from ``first`` on, before ``end``; all of them have run. Values are rows of words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bits", "levels", "moved", "ones", "transfers", "values"]

Words = NDArray[np.uint64]


def _in_each(begins: NDArray[np.int64], found: NDArray[Any], first: int, end: int) -> NDArray[Any]:
    """Return for each cycle what was found of the value that is there."""
    return np.repeat(found, np.diff(np.append(np.maximum(begins, first), end)))


def levels(signal: Any, first: int, end: int) -> NDArray[np.bool_]:
    """Return whether a signal is not 0, in each cycle."""
    begins, words = signal.history(first, end)
    return _in_each(begins, words.any(axis=1), first, end)


def values(signal: Any, first: int, end: int) -> Words:
    """Return the value of a signal of at most 64 bits, in each cycle."""
    begins, words = signal.history(first, end)
    return _in_each(begins, words[:, 0], first, end)


def ones(signal: Any, first: int, end: int) -> NDArray[np.int64]:
    """Return how many bits of a signal are set, in each cycle."""
    begins, words = signal.history(first, end)
    return _in_each(begins, np.bitwise_count(words).sum(axis=1, dtype=np.int64), first, end)


def transfers(valid: Any, ready: Any, first: int, end: int) -> NDArray[np.bool_]:
    """Return whether there is a transfer, in each cycle."""
    return levels(valid, first, end) & levels(ready, first, end)


def moved(valid: Any, ready: Any, payload: Any, first: int, end: int) -> list[tuple[int, int]]:
    """Return the cycles with a transfer, and what is transferred in each."""
    cycles = first + np.flatnonzero(transfers(valid, ready, first, end))
    if not len(cycles):
        return []
    begins, words = payload.history(first, end)
    found = words[np.searchsorted(begins, cycles, side="right") - 1]
    return [
        (cycle, int.from_bytes(each.tobytes(), "little"))
        for cycle, each in zip(cycles.tolist(), found, strict=True)
    ]


def bits(words: Words, low: int, width: int) -> Words:
    """Return some bits of values, at most 64."""
    word, shift = divmod(low, 64)
    found = words[:, word] >> np.uint64(shift)
    if shift + width > 64:
        found = found | words[:, word + 1] << np.uint64(64 - shift)
    return found & np.uint64((1 << width) - 1)
