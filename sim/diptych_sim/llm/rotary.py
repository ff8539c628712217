# SPDX-License-Identifier: BSD-2-Clause
"""Rotary positions: order of the rows that they turn, and scalings as divisors of frequencies."""

from __future__ import annotations

import math

import numpy as np

from diptych_sim.llm.model import Floats

__all__ = ["ROTATED", "interleave", "linear_divisors", "llama3_divisors", "split_halves"]

ROTATED = ("wq", "wk", "bq", "bk", "q_norm", "k_norm")
"""Arrays of a layer whose rows rotary positions turn."""


def interleave(array: Floats, head_dim: int) -> Floats:
    """Rows of rotary halves (i, i + head_dim / 2) -> rows of pairs (2i, 2i + 1), in every head.

    ``array`` is [heads * head_dim, dim], or [heads * head_dim] as of biases and gains.
    """
    halves = array.reshape(-1, 2, head_dim // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def split_halves(array: Floats, head_dim: int) -> Floats:
    """Undo :func:`interleave`."""
    pairs = array.reshape(-1, head_dim // 2, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def linear_divisors(head_dim: int, factor: float) -> tuple[float, ...]:
    """Positions divided by ``factor``."""
    return (factor,) * (head_dim // 2)


def llama3_divisors(
    head_dim: int, theta: float, factor: float, low: float, high: float, original: float
) -> tuple[float, ...]:
    """Slow pairs are divided by ``factor``, fast ones not, those between in part (Llama 3.1).

    A pair is slow if it turns less than ``low`` times in the ``original`` context, fast if more
    than ``high`` times.

    Raises
    ------
    ValueError
        If ``high`` is not greater than ``low``.
    """
    if not high > low:
        raise ValueError(f"high_freq_factor must be greater than {low!r}, not {high!r}")
    divisors = []
    for pair in range(head_dim // 2):
        turns = original * theta ** (-2 * pair / head_dim) / (2 * math.pi)
        fast = min(max((turns - low) / (high - low), 0.0), 1.0)
        divisors.append(1 / (fast + (1 - fast) / factor))
    return tuple(divisors)
