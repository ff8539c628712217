# SPDX-License-Identifier: BSD-2-Clause
"""How the heads of a model may be dealt to the columns of a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["HeadDeal", "Shape", "head_deals"]

_WORD = 8
"""Elements of a word: what a tile multiplies in a cycle."""
_REDUCTION = 30
"""Cycles of a reduction over neighboring columns, without its hops and wavelets."""
_HOP = 2
"""Cycles for each tile on the way to the middle and back."""


class Shape(Protocol):
    """What dealing heads needs to know of a model."""

    @property
    def dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def qk_norm(self) -> bool: ...


@dataclass(frozen=True)
class HeadDeal:
    """Heads of a column, or of ``split`` neighboring columns that share each of them.

    Attributes
    ----------
    heads, kv_heads : int
        Query heads, and KV heads that these need.
    split : int
        Columns that share the heads; each has as many elements of each.
    """

    heads: int
    kv_heads: int
    split: int


def head_deals(c: Shape, rows: int, columns: int, *, slots: int) -> list[HeadDeal]:
    """Return the ways to deal the heads, the fastest first.

    Columns that share heads have all query heads of their KV heads, so that each element of the KV
    cache lies in one column.

    Parameters
    ----------
    slots : int
        Positions of a row.
    """
    heads = _whole_heads(c, columns)
    group = c.heads // c.kv_heads
    ways = {HeadDeal(heads, max(1, heads // group), 1)}
    for split in range(2, c.head_dim // _WORD + 1):
        if c.head_dim % (split * _WORD) or split > columns:
            continue
        kv_heads = -(-c.kv_heads // (columns // split))
        ways.add(HeadDeal(kv_heads * group, kv_heads, split))
    return sorted(ways, key=lambda way: (_cycles(c, rows, way, slots), way.split))


def _whole_heads(c: Shape, columns: int) -> int:
    """Return how many query heads a column takes that shares none."""
    group = c.heads // c.kv_heads
    heads = -(-c.heads // columns)
    while heads % group and group % heads:
        heads += 1
    return heads


def _cycles(c: Shape, rows: int, deal: HeadDeal, slots: int) -> int:
    """Return about the cycles of a layer's attention, with the matrices of its heads."""
    width = c.head_dim // deal.split
    words = -(-c.dim // (rows * _WORD))
    query, cached = deal.heads * width, deal.kv_heads * width
    products = (query + 2 * cached) * words + words * query
    scores = 3 * slots * query // _WORD
    contexts = query * -(-slots // _WORD)
    reductions = 0
    if deal.split > 1:
        # Scores, and of norms of heads the largest magnitudes and the sums of squares.
        count = 3 if c.qk_norm else 1
        reductions = count * (_REDUCTION + _HOP * (deal.split // 2)) + deal.heads * slots
    return products + scores + contexts + reductions
