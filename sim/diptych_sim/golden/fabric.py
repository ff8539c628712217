# SPDX-License-Identifier: BSD-2-Clause
"""Reductions of a router. Words are unsigned 32 bits, as wavelets carry them.

Each of these is associative and commutative, so that a reduction gives the same words whatever
tree it takes through the fabric.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Pair", "add", "arg_max", "maximum", "signed"]

Pair = tuple[int, int]
"""A key, compared as int32, and an index, compared as uint32."""


def signed(word: int) -> int:
    """Return a word as int32."""
    return (word ^ 2**31) - 2**31


def add(words: Iterable[int]) -> int:
    """Return the sum as int32, wrapping."""
    return sum(words) % 2**32


def maximum(words: Iterable[int]) -> int:
    """Return the largest int32."""
    return max(words, key=signed)


def arg_max(pairs: Iterable[Pair]) -> Pair:
    """Return the pair with the largest key; among equal keys that with the smallest index."""
    return max(pairs, key=lambda pair: (signed(pair[0]), -pair[1]))
