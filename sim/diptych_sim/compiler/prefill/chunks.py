# SPDX-License-Identifier: BSD-2-Clause
"""Compiles prompts that the prefill panel has no room for as a whole: chunk by chunk.

A chunk goes through all layers before the next one, so that only keys and values are kept, in HBM.
Attention of a chunk reads those of all positions up to its own from there. All weights are read once for
each chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import Queue, StoreOp, Target
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import (
    HbmImage,
    PrefillError,
    lanes_of,
    rope_bytes,
    round_up,
)
from diptych_sim.compiler.array.kv_rows import KvRows
from diptych_sim.compiler.prefill.chunk_memories import ChunkMemories, ways_to_cache
from diptych_sim.compiler.prefill.memories import MATRICES, Memories, fitting, span_of
from diptych_sim.compiler.prefill.pieces import IDS_IN_BEAT
from diptych_sim.compiler.prefill.prompts import Block, Chunk, Prompts
from diptych_sim.compiler.prefill.whole import PrefillCompiler
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["ChunkCompiler", "ChunkPlan", "plan_chunks"]


@dataclass(frozen=True)
class ChunkPlan:
    """How a prompt is read in chunks.

    Attributes
    ----------
    rows : int
        Rows of a chunk, at most.
    heads, places : int
        As of :class:`.ChunkMemories`.
    """

    rows: int
    heads: int
    places: int


class _Piece(NamedTuple):
    """Bytes of a row of keys and values: where they begin there, and where in HBM."""

    start: int
    to: int
    bytes: int


def _step(model: QuantizedModel, columns: int) -> int:
    """Return what the rows of a chunk are a multiple of: RoPE's factors are loaded from a beat on."""
    return BEAT_BYTES // math.gcd(BEAT_BYTES, rope_bytes(model.config, columns))


def plan_chunks(
    model: QuantizedModel,
    array: tuple[int, int],
    prompts: Prompts,
    image: HbmImage,
    *,
    most: int | None = None,
) -> ChunkPlan:
    """Return the plan with the largest chunks, of ``most`` rows if given, that the panel has room for.

    Raises
    ------
    PrefillError
        If it has room for none.
    """
    line, c = max(array), model.config
    step = _step(model, array[1])
    longest = prompts.longest
    queries, contexts = lanes_of(c, array)
    where = {"array": array, "queries": queries, "contexts": contexts, "paired": False}

    def fit(plan: ChunkPlan) -> None:
        chunk = _largest(plan.rows, longest)
        rest: dict[str, Any] = {"heads": plan.heads, "places": plan.places, "prompts": chunk}
        fitting(ChunkMemories, model, image, **where, **rest)

    def fits(plan: ChunkPlan) -> bool:
        try:
            fit(plan)
        except PrefillError:
            return False
        return True

    best: ChunkPlan | None = None
    for heads, places in ways_to_cache(c, line):
        low, high = 0, round_up(longest, step) // step
        if most is not None:
            high = min(high, max(1, most // step))
        while low < high:
            middle = (low + high + 1) // 2
            if fits(ChunkPlan(middle * step, heads, places)):
                low = middle
            else:
                high = middle - 1
        if low and (best is None or low * step > best.rows):
            best = ChunkPlan(low * step, heads, places)
    if best is None:
        heads, places = list(ways_to_cache(c, line))[-1]
        fit(ChunkPlan(step, heads, places))  # says why
        raise AssertionError
    return best


def _largest(rows: int, longest: int) -> Chunk:
    """Return the chunk that takes most room, of prompts of up to ``longest`` tokens."""
    return Chunk([[0] * rows], max(0, longest - rows), 0, final=True)


class ChunkCompiler(PrefillCompiler):
    """Compiles prompts, each in chunks, as planned.

    Keys and values go to HBM (``kv`` says where), and, if ``to_link``, to the link.
    """

    prompts: Chunk
    memories: ChunkMemories

    def __init__(
        self,
        model: QuantizedModel,
        array: tuple[int, int],
        prompts: Prompts,
        image: tuple[HbmImage, dict[str, int]],
        plan: ChunkPlan,
        *,
        seeds: Sequence[int] = (),
        to_link: bool = True,
    ) -> None:
        self.plan = plan
        self.to_link = to_link
        self.all = prompts
        super().__init__(
            model,
            *array,
            _largest(plan.rows, prompts.longest),
            image=image,
            may_pair=False,
            seeds=seeds,
            drawn=prompts,
        )
        self.kv = KvRows.add(
            image[0],
            model.config,
            max(array),
            sequences=len(prompts.tokens),
            positions=prompts.longest,
            groups=self.memories.head_groups,
        )
        self._ids = 0
        self._loads = 0

    def _memories(self, *where: Any, **rest: Any) -> Memories:
        return fitting(
            ChunkMemories, *where, heads=self.plan.heads, places=self.plan.places, **rest
        )

    @property
    def chunks(self) -> Iterator[Chunk]:
        """The chunks of all prompts, those of a prompt of nearly one size."""
        step = _step(self.model, self.columns)
        for number, tokens in enumerate(self.all.tokens):
            count = -(-len(tokens) // self.plan.rows)
            size = round_up(-(-len(tokens) // count), step)
            for at in range(0, len(tokens), size):
                part = tokens[at : at + size]
                yield Chunk([part], at, number, final=at + size >= len(tokens))

    def run(self) -> PrefillProgram:
        c = self.model.config
        chunks = list(self.chunks)
        ids: list[int] = []
        starts = []
        for chunk in chunks:
            starts.append(len(ids))
            ids += chunk.tokens[0]
            ids += [0] * (-len(ids) % IDS_IN_BEAT)
        self._add_ids(ids)
        weights = self._weight_bytes(self.all.count)
        for chunk, start in zip(chunks, starts, strict=True):
            self._begin(chunk, start)
            for index in range(c.layers):
                self._layer(index, last=index + 1 == c.layers)
            if chunk.final:
                self._best_token(chunk.number, chunk.last_rows[0])
            self.out.end_rows()
        return self._finish(weights)

    def _begin(self, chunk: Chunk, ids: int) -> None:
        self.prompts, self.count, self._ids = chunk, chunk.count, ids
        self.memories.begin(chunk)

    def _first_id(self) -> int:
        return self._ids

    def _load_tables(self) -> None:
        if self._ids == 0:
            self.weights.load_scales(None)
        self._load_rope(Block(0, self.count), self.prompts.at)

    # --- keys and values -----------------------------------------------------------------------
    def _kept(self, index: int, group: int, first: int, end: int) -> Span:
        """Return keys and values of positions of a layer, in HBM."""
        return Span(f"kv{self.prompts.number}.{index}.{group}", first, end)

    def _pieces(self) -> Iterator[tuple[int, _Piece]]:
        """Yield a group of KV heads and a piece of a row of it, all planes at once if that can be."""
        memories = self.memories
        if memories.head_groups == 1:
            yield 0, _Piece(0, 0, memories.kept)
            return
        for group, plane in product(range(memories.head_groups), range(3)):
            start = plane * memories.kv + group * memories.width
            yield group, _Piece(start, plane * memories.width, memories.width)

    def _hand_off(self, index: int) -> None:
        """Keys and values of the chunk go to HBM, for attention, and to the link."""
        chunk, memories = self.prompts, self.memories
        rows = Block(0, self.count)
        self.out.label(index, "store keys and values")
        for group, piece in self._pieces():
            self.out.store(
                StoreOp.HBM,
                reads=[span_of(name, rows) for name in ("k_high", "v")],
                writes=[self._kept(index, group, chunk.at, chunk.longest)],
                hbm=self.kv.at(index, chunk.number, chunk.at, group) + piece.to,
                bytes=piece.bytes,
                rows=chunk.count,
                pitch=self.kv.pitch,
                source=memories.scratch["k_high"] + piece.start,
                source_pitch=memories.kv_row,
            )
        if self.to_link:
            self.out.label(index, "hand-off")
            self._to_link(index, chunk.number, rows, chunk.at)

    def _load_cache(self, index: int, group: int, first: int, end: int) -> None:
        """Load keys and values of a group of KV heads and of some positions."""
        chunk, memories = self.prompts, self.memories
        if first == end:
            return
        self.out.label(index, "load keys and values")
        number = self._place(group)
        self.out.add(
            Queue.LOAD,
            Target.SCRATCHPAD,
            reads=[self._kept(index, group, first, end)],
            writes=[Span(f"cache{number}", 0, 1)],
            hbm=self.kv.at(index, chunk.number, first, group),
            bytes=(end - first) * self.kv.pitch,
            rows=1,
            target=memories.scratch[f"cache{number}"] + first * memories.cache_row,
        )

    def _place(self, group: int) -> int:
        return (self._loads + group) % self.memories.places

    # --- a layer -------------------------------------------------------------------------------
    def _layer(self, index: int, *, last: bool) -> None:
        chunk, memories = self.prompts, self.memories
        blocks: Sequence[Block] = memories.blocks
        for block in blocks:
            if index == 0:
                self._load_prompt(block)
                self._embed(block)
                self._norm(0, block)
            for name in "kv" if last else "qkv":
                self._project(index, name, block)
        if index == 0:
            self._load_cache(0, 0, 0, chunk.at)
        self._hand_off(index)
        if last and not chunk.final:
            return
        if last:
            blocks = chunk.last_rows
            self._project(index, "q", blocks[0])
        self._load_cache(index, 0, chunk.at, chunk.longest)
        if index == 0:
            self._load_weights(0, MATRICES[3:])
        self._attention(index, blocks)
        for block in blocks:
            self._residual(index, "wo", "context", block, dynamic=False)
            self._mlp_norm(index, block)
        # Keys and values come while the array multiplies.
        self._loads += self.memories.head_groups
        if last:
            self._load_output()
        else:
            if not (index + 2 == self.model.config.layers and not chunk.final):
                self._load_cache(index + 1, 0, 0, chunk.at)
            self._load_weights(index + 1, MATRICES)
        for block in blocks:
            self._gate(index, block)
        for block in blocks:
            self._residual(index, "w_down", "hidden", block, dynamic=True)
            self._norm(index + 1, block)

    def _attention(self, index: int, blocks: Sequence[Block]) -> None:
        """Attention of all heads: of those that share keys and values, part by part of the rows.

        While the vector unit works on the scores of one head, the array multiplies the next one's.
        """
        memories, c = self.memories, self.model.config
        heads = c.heads // self.memories.head_groups
        parts = [part for block in blocks for part in memories.parts(block)]
        turn = 0
        for group in range(self.memories.head_groups):
            following = group + memories.places - 1
            if 0 < following < self.memories.head_groups:
                self._load_cache(index, following, 0, self.prompts.longest)
            cache = memories.place(self._place(group), group)
            before: list[Any] = []
            for part in parts:
                for head in range(group * heads, (group + 1) * heads):
                    self.attention.scores(index, part, head, cache, turn % 2)
                    if before:
                        self.attention.context(index, *before)
                    before = [part, head, cache, turn % 2]
                    turn += 1
            # Others take the place of the group's keys and values.
            self.attention.context(index, *before)
