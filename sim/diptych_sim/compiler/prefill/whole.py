# SPDX-License-Identifier: BSD-2-Clause
"""Compiles prompts that the prefill panel has room for as a whole: HBM contents and commands.

Prompts go through a layer in blocks of rows, so that the vector unit works on one block while the
array multiplies another one. A block may hold rows of several prompts; attention takes them one by
one. In the last layer, only keys and values are computed for all rows; the rest is computed for the
last row of each prompt, which is all that its first token needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.systolic.isa import StoreOp, VectorOp
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import round_up
from diptych_sim.compiler.prefill.commands import Remember
from diptych_sim.compiler.prefill.memories import MATRICES, span_of
from diptych_sim.compiler.prefill.pieces import PrefillPieces
from diptych_sim.compiler.prefill.prompts import Block
from diptych_sim.golden.machine import top_word
from diptych_sim.golden.numbers import GATE_FRACTION

__all__ = ["PrefillCompiler"]

_LATER = 3
"""Heads of the next block that begin before the output projection of a block."""


class PrefillCompiler(PrefillPieces):
    """Compiles prompts, all rows of which go through a layer before the next one."""

    def run(self) -> PrefillProgram:
        """Compile the prompts; their program is the last part of the image."""
        c = self.model.config
        weights = self._weight_bytes(self.count)
        self._add_ids([token for prompt in self.prompts.tokens for token in prompt])
        for index in range(c.layers):
            self._layer(index, last=index + 1 == c.layers)
        for number, block in enumerate(self.prompts.last_rows):
            self._best_token(number, block)
        return self._finish(weights)

    def _weight_bytes(self, tokens: int) -> int:
        """Return what :attr:`.PrefillProgram.weight_bytes` is for prompts of so many tokens."""
        c, size = self.model.config, self.image.size
        weights = sum(size[f"layer{n}"] for n in range(c.layers))
        # Of the tables, what the prompts need: rows of the embedding, their scales, RoPE factors.
        return weights + size["output"] + size["parameters"] + tokens * (c.dim + 4 + 2 * c.head_dim)

    def _finish(self, weights: int) -> PrefillProgram:
        """Add the program to the image; ``weights``: as of :class:`.PrefillProgram`."""
        self.image.add("program", np.array(self.out.list.words(), dtype="<u4"))
        start = self.image.start_of("program")
        return PrefillProgram(bytes(self.image.data), start, self.out.list, weights)

    def _hand_off(self, index: int) -> None:
        self.out.label(index, "hand-off")
        for number, prompt in enumerate(self.prompts.blocks):
            self._to_link(index, number, prompt, 0)

    def _to_link(self, index: int, number: int, rows: Block, position: int) -> None:
        """Hand off keys and values of rows of prompt ``number``, the first being at ``position``."""
        kinds = ((StoreOp.KEYS, "k_high", "k_low"), (StoreOp.VALUES, "v", "v"))
        for op, source, source2 in kinds:
            self.out.store(
                op,
                reads=[span_of(source, rows)],
                bytes=self.model.config.kv_dim,
                rows=rows.rows,
                source=self.memories.key(source, rows),
                source2=self.memories.key(source2, rows),
                source_pitch=self.memories.kv_row,
                layer=index | number << 8,
                first=position,
            )

    # --- attention -----------------------------------------------------------------------------
    def _attention(self, index: int, blocks: Sequence[Block]) -> None:
        """Attention and output projection of all heads and blocks.

        While the vector unit works on the scores of one head, the array multiplies the next one's.
        The output projection of a block waits a little, until its last context is there; that of
        the last but one fills the array while the last context is on its way.
        """
        heads = self.model.config.heads
        parts = [(part, block) for block in blocks for part in self.memories.parts(block)]
        caches = [self.memories.cache(part) for part, _ in parts]
        items = [
            (part, head, cache)
            for (part, _), cache in zip(parts, caches, strict=True)
            for head in range(heads)
        ]
        waiting: list[tuple[int, Block]] = []
        for turn, (part, head, cache) in enumerate(items):
            self.attention.scores(index, part, head, cache, turn % 2)
            if turn:
                self.attention.context(index, *items[turn - 1], (turn - 1) % 2)
            while waiting and waiting[0][0] <= turn and waiting[0][1] is not blocks[-2]:
                done = waiting.pop(0)[1]
                self._residual(index, "wo", "context", done, dynamic=False)
                self._mlp_norm(index, done)
            block = parts[turn // heads][1]
            if head == heads - 1 and part.end == block.end:
                waiting.append((turn + 1 + _LATER, block))
        last = waiting.pop()[1]
        for _, done in waiting:
            self._residual(index, "wo", "context", done, dynamic=False)
        self.attention.context(index, *items[-1], (len(items) - 1) % 2)
        for _, done in waiting:
            self._mlp_norm(index, done)
        self._residual(index, "wo", "context", last, dynamic=False)
        self._mlp_norm(index, last)

    # --- the rest of a layer -------------------------------------------------------------------
    def _gate(self, index: int, block: Block) -> None:
        memories = self.memories
        self.out.label(index, "gate and up")
        tiles = memories.hidden // self.columns
        place = self._vectors(block, memories.gated, memories.hidden)
        for start, n in memories.groups(tiles, block.rows, memories.dim, share=2):
            sums = self.out.take_sums(2 * n * block.rows)
            sums2 = sums + n * block.rows
            self._product(index, "w_gate", "normed", block, (start, n), sums)
            self._product(index, "w_up", "normed", block, (start, n), sums2)
            self.out.vector(
                VectorOp.GATE,
                block=block,
                tiles=n,
                sums=sums,
                reads=[
                    Span("sums", sums2, sums2 + n * block.rows),
                    *self.weights.scale_reads(index),
                ],
                parameters=self.weights.scales(index, "gate") + start,
                extra=sums2 | (self.weights.scales(index, "up") + start) << 16,
                vector=place["vector"] + start,
                vector_row=place["vector_row"],
                target=self.model.layers[index].hidden_floor,
                scale=GATE_FRACTION - self.model.layers[index].gate_fraction,
                flags={"dynamic": 1, "restart": start == 0, "low_first": start + n == tiles},
            )
        shared: dict[str, Any] = {
            "block": block,
            "tiles": tiles,
            "scale": top_word(self.model.activation_bits),
            "extra": self.model.activation_bits << 16,
            "remember": Remember.NORM,
            **self._target("hidden", block, memories.hidden),
            **place,
        }
        self.out.vector(VectorOp.QUANTIZE, writes=[span_of("hidden", block)], **shared)

    def _layer(self, index: int, *, last: bool) -> None:
        blocks: Sequence[Block] = self.memories.blocks
        names = "kv" if last else "qkv"
        for block in blocks:
            if index == 0:
                self._load_prompt(block)
                self._embed(block)
                self._norm(0, block)
            for name in names:
                self._project(index, name, block)
        if last:
            blocks = self.prompts.last_rows
            for block in blocks:
                self._project(index, "q", block)
        # Loads only now: commands that wait in a full queue hold up all that are behind them.
        if index == 0:
            self._load_weights(0, MATRICES[3:])
        self._hand_off(index)
        self._attention(index, blocks)
        if last:
            self._load_output()
        else:
            self._load_weights(index + 1, MATRICES)
        stages: list[Callable[[Block], None]] = [
            lambda block: self._gate(index, block),
            lambda block: self._residual(index, "w_down", "hidden", block, dynamic=True),
        ]
        for block in blocks:
            stages[0](block)
        for block in blocks:
            stages[1](block)
            self._norm(index + 1, block)

    def _best_token(self, number: int, block: Block) -> None:
        """First token of a prompt from its last row."""
        m, memories = self.model, self.memories
        self.out.label(None, "best token")
        width = round_up(m.config.vocab, self.columns) // self.columns
        for start, n in memories.output_groups(width):
            sums = self.out.take_sums(n)
            fields, reads = self.weights.part("output", "output", memories.dim, start, n)
            self.out.matrix(
                x=memories.scratch["normed"] + block.first * memories.dim,
                x_row=memories.dim,
                x_k=self.rows,
                sums=sums,
                block=block,
                k=memories.dim // self.rows,
                n=n,
                reads=[span_of("normed", block), *reads],
                **fields,
            )
            entry, scales = self.weights.output_scales(start, n)
            drawn: dict[str, Any] = {}
            if self.seeds:
                drawn = self.noise.load(number, start, n)
                scales = [*scales, *drawn.pop("reads")]
            self.out.vector(
                VectorOp.ARGMAX,
                block=block,
                tiles=n,
                sums=sums,
                parameters=entry,
                vector=start,
                extra=m.config.vocab - start * self.columns | m.logit_bits << 16,
                reads=scales,
                writes=[Span("token", 0, 1)],
                **drawn,
            )
        self.out.store(
            StoreOp.TOKEN,
            reads=[Span("token", 0, 1)],
            rows=1,
            first=block.position,
            layer=number << 8,
        )
