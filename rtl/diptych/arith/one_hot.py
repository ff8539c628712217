# SPDX-License-Identifier: BSD-2-Clause
"""Selection by vectors of which one bit at most is set."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Mux, Value

__all__ = ["encode", "select"]


def select(one_hot: Value, values: Sequence[Value]) -> Value:
    """Return the OR of those values whose bit of ``one_hot`` is set."""
    masked: list[Any] = [Mux(bit, value, 0) for bit, value in zip(one_hot, values, strict=True)]
    while len(masked) > 1:
        rest = masked[len(masked) & ~1 :]
        masked = [a | b for a, b in zip(masked[::2], masked[1::2], strict=False)] + rest
    return masked[0]


def encode(one_hot: Value) -> Value:
    """Return the number of the one bit that is set; 0 if none is."""
    count = len(one_hot)
    return Cat(
        Cat(one_hot[n] for n in range(count) if n >> bit & 1).any()
        for bit in range(max(1, (count - 1).bit_length()))
    )
