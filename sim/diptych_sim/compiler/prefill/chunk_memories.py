# SPDX-License-Identifier: BSD-2-Clause
"""Where a prompt that is read in chunks keeps what, in the panel's memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diptych.memory.axi import BEAT_BYTES
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import HbmImage, round_up
from diptych_sim.compiler.array.kv_rows import kv_pitch
from diptych_sim.compiler.prefill.memories import Cache, Memories
from diptych_sim.compiler.prefill.prompts import Block, Chunk
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.model import ModelConfig

__all__ = ["ChunkMemories", "ways_to_cache"]


def ways_to_cache(config: ModelConfig, line: int) -> Iterator[tuple[int, int]]:
    """Yield how many KV heads have keys and values in the scratchpad at once, and in how many places.

    In two: those of the next heads come while the others are used. What moves least comes first.
    """
    yield config.kv_heads, 1
    for heads in range(config.kv_heads - 1, 0, -1):
        if config.kv_heads % heads == 0 and heads * config.head_dim % max(line, BEAT_BYTES) == 0:
            yield heads, 2
            yield heads, 1


class ChunkMemories(Memories):
    """Memories for chunks of a prompt, the largest of which is given.

    Keys and values of a chunk's rows are there as of :class:`.Memories`, for link and HBM. Attention
    reads those of all positions from places ``cache0`` and perhaps ``cache1``, which are filled from
    HBM, with those of some KV heads at once. A block's scores are computed part by part of its rows.

    Parameters
    ----------
    heads : int
        KV heads at once, a divisor of all.
    places : int
        Places for them, 1 or 2.
    """

    prompts: Chunk

    def __init__(
        self,
        model: QuantizedModel,
        image: HbmImage,
        *,
        heads: int,
        places: int,
        array: tuple[int, int],
        **rest: Any,
    ) -> None:
        c, line = model.config, max(array)
        self.places = places
        self.head_groups = c.kv_heads // heads
        self.head_bytes = heads * c.head_dim
        self.width = round_up(self.head_bytes, line)
        self.cache_row = kv_pitch(self.width, line)
        super().__init__(model, image, array=array, rows_whole=True, **rest)

    def begin(self, chunk: Chunk) -> None:
        """Go on with a chunk, of at most as many rows and positions."""
        self.prompts, self.count = chunk, chunk.count
        self.blocks = self._blocks()

    def _most_rows(self) -> int:
        return min(super()._most_rows(), self.count)

    def _powers(self, rows: int) -> int:
        return min(rows * self.positions, 2 * self.half * self.columns + rows * self.line)

    def _head_caches(self) -> dict[str, int]:
        return {f"cache{n}": self.positions * self.cache_row for n in range(self.places)}

    def _scores(self, first: int, rows: int) -> int:
        return 0  # parts of a block have them, not blocks

    def _subject(self) -> str:
        return f"Prompt of {self.prompts.longest} tokens, in chunks of {self.count},"

    def _rows(self, position: int, entries: int) -> int:
        """Return how many rows from a position on have scores that fit so many entries."""
        rows = 0
        while (rows + 1) * -(-(position + rows + 1) // self.columns) <= entries:
            rows += 1
        return rows

    def parts(self, block: Block) -> Iterator[Block]:
        """Split a block into parts whose scores fit a half, or both if the array is busy for less then.

        It takes as many cycles for a tile of keys as it has columns, if there are fewer rows. While the
        vector unit reads scores that take both, it has the contexts of the head before.
        """
        first, position = block.first, self.prompts.at + block.first
        while first < block.end:
            left = block.end - first
            counts = []
            for entries in (self.half, 2 * self.half):
                most = self._rows(position, entries)
                assert most, "the scratchpad has room for fewer positions than there are scores for"
                counts.append(-(-left // most))
            busy = [count * max(-(-left // count), self.columns) for count in counts]
            rows = -(-left // (counts[1] if busy[1] < busy[0] else counts[0]))
            yield from self.prompts.parts(Block(first, rows))
            first, position = first + rows, position + rows

    def power_row(self, block: Block) -> int:
        return round_up(block.seen.rows, self.line)

    def place(self, number: int, group: int) -> Cache:
        """Return the cache of a place with the keys and values of a group of KV heads."""
        name = f"cache{number}"
        planes = ("k_high", "k_low", "v")
        return Cache(
            planes={p: self.scratch[name] + n * self.width for n, p in enumerate(planes)},
            row=self.cache_row,
            spans=dict.fromkeys(planes, Span(name, 0, 1)),
            first=group * self.head_bytes,
        )
