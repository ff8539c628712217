# SPDX-License-Identifier: BSD-2-Clause
"""How heads may be dealt to the columns of a mesh, and positions to its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from diptych_sim.compiler.decode.position_deal import PositionDeal

__all__ = ["REACHES", "HeadDeal", "Shape", "head_deals"]

_WORD = 8
"""Elements of a word: what a tile multiplies in a cycle."""
_REDUCTION = 30
"""Cycles of a reduction over neighboring columns, without its hops and wavelets."""
_HOP = 2
"""Cycles for each tile on the way to the middle and back."""
_BLOCKS = (1, 2, 4, 8, 16)
"""Neighboring positions of a row that are tried."""
REACHES = 4
"""Ways of a layer's attention, in one direction, that are as long as the way to the farthest row with
positions: of queries to it, of the largest score there and back, and of contexts."""


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
    """Heads of a column, or of ``split`` neighboring columns that share each of them, and positions.

    Attributes
    ----------
    heads, kv_heads : int
        Query heads, and KV heads that these need.
    split : int
        Columns that share the heads; each has as many elements of each.
    positions : PositionDeal
        How positions are dealt to rows.
    """

    heads: int
    kv_heads: int
    split: int
    positions: PositionDeal


def head_deals(
    c: Shape, rows: int, columns: int, *, positions: int, sequences: int = 1
) -> list[HeadDeal]:
    """Return the ways to deal heads and positions, the fastest first.

    Columns that share heads have all query heads of their KV heads, so that each element of the KV
    cache lies in one column.

    Parameters
    ----------
    positions : int
        Those of the longest sequence.
    sequences : int
        Of several, each waits for its reductions while others compute: then all rows take part.
    """
    heads = _whole_heads(c, columns)
    group = c.heads // c.kv_heads
    ways = {(heads, max(1, heads // group), 1)}
    for split in range(2, c.head_dim // _WORD + 1):
        if c.head_dim % (split * _WORD) or split > columns:
            continue
        kv_heads = -(-c.kv_heads // (columns // split))
        ways.add((kv_heads * group, kv_heads, split))
    blocks = [PositionDeal(rows, block) for block in (_BLOCKS if sequences == 1 else (1,))]
    deals = [HeadDeal(*way, block) for way in ways for block in blocks]

    def order(deal: HeadDeal) -> tuple[int, int, int]:
        return _cycles(c, rows, deal, positions), deal.split, deal.positions.block

    return sorted(deals, key=order)


def _whole_heads(c: Shape, columns: int) -> int:
    """Return how many query heads a column takes that shares none."""
    group = c.heads // c.kv_heads
    heads = -(-c.heads // columns)
    while heads % group and group % heads:
        heads += 1
    return heads


def _cycles(c: Shape, rows: int, deal: HeadDeal, positions: int) -> int:
    """Return about the cycles of a layer's attention, with the matrices of its heads."""
    slots = deal.positions.held(rows // 2, positions)
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
    ways = REACHES * deal.positions.reach(positions)
    return products + scores + contexts + reductions + ways
