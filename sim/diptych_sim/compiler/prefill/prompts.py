# SPDX-License-Identifier: BSD-2-Clause
"""Which rows of a prefill belong to which prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Block", "Chunk", "Part", "Prompts"]


@dataclass(frozen=True)
class Block:
    """Rows ``first`` to ``end - 1``, which go through a layer together.

    In attention they are of one prompt, which begins at row ``origin``.
    """

    first: int
    rows: int
    origin: int = 0

    @property
    def end(self) -> int:
        """First row behind the block."""
        return self.first + self.rows

    @property
    def position(self) -> int:
        """Position of the first row in its prompt."""
        return self.first - self.origin

    @property
    def seen(self) -> Block:
        """The rows that the last row of the block attends to."""
        return Block(self.origin, self.end - self.origin, self.origin)


@dataclass(frozen=True)
class Part(Block):
    """Rows whose positions are not their numbers: the first is at position ``at``.

    Keys and values of their sequence begin at row ``origin``.
    """

    at: int = 0

    @property
    def position(self) -> int:
        return self.at

    @property
    def seen(self) -> Block:
        return Block(self.origin, self.at + self.rows, self.origin)


@dataclass(frozen=True)
class Prompts:
    """Prompts that are read together: the rows of one follow those of another."""

    tokens: Sequence[Sequence[int]]

    @property
    def count(self) -> int:
        """Rows of all prompts."""
        return sum(map(len, self.tokens))

    @property
    def longest(self) -> int:
        """Rows of the longest prompt."""
        return max(map(len, self.tokens))

    def cache_rows(self, line: int) -> int:
        """Rows of keys, and of values: each prompt is read to the end of a line of positions."""
        return -(-self.count // line) * line + (line if len(self.tokens) > 1 else 0)

    @property
    def blocks(self) -> list[Block]:
        """The rows of each prompt."""
        lengths = [len(prompt) for prompt in self.tokens]
        starts = accumulate(lengths[:-1], initial=0)
        return [Block(start, n, start) for start, n in zip(starts, lengths, strict=True)]

    @property
    def last_rows(self) -> list[Block]:
        """The last row of each prompt."""
        return [Block(block.end - 1, 1, block.first) for block in self.blocks]

    def parts(self, block: Block) -> Iterator[Block]:
        """Split a block where a prompt ends."""
        for prompt in self.blocks:
            first, end = max(block.first, prompt.first), min(block.end, prompt.end)
            if first < end:
                yield Block(first, end - first, prompt.first)


@dataclass(frozen=True)
class Chunk(Prompts):
    """Tokens of one prompt from position ``at`` on, which go through all layers together.

    Keys and values of the positions before are in HBM.

    Attributes
    ----------
    at : int
        Position of the first token.
    number : int
        Which prompt it is.
    final : bool
        Whether the prompt ends with it.
    """

    at: int
    number: int
    final: bool

    @property
    def longest(self) -> int:
        return self.at + self.count

    def cache_rows(self, line: int) -> int:
        return self.count  # only HBM and link read them

    @property
    def last_rows(self) -> list[Block]:
        return [Part(self.count - 1, 1, 0, self.longest - 1)]

    def parts(self, block: Block) -> Iterator[Block]:
        yield Part(block.first, block.rows, 0, self.at + block.first)
