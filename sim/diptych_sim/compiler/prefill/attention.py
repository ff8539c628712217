# SPDX-License-Identifier: BSD-2-Clause
"""Attention of one head on the prefill panel: scores, exponentials, and the sum of values."""

from __future__ import annotations

from typing import Any

from diptych.systolic.isa import Causal, Start, VectorOp
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import Lanes, round_up
from diptych_sim.compiler.prefill.commands import PrefillCommands, Remember
from diptych_sim.compiler.prefill.memories import Cache, Memories, span_of
from diptych_sim.compiler.prefill.prompts import Block
from diptych_sim.compiler.prefill.weights import Weights
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["Attention"]


class Attention:
    """Writes the commands of a head's attention.

    Parameters
    ----------
    model : QuantizedModel
        The model.
    memories : Memories
        Where things are.
    out : PrefillCommands
        Takes the commands.
    array : tuple of int
        Rows and columns of the array.
    queries, contexts : Lanes
        Places of heads in rows of queries and of contexts.
    weights : Weights
        Where scales are.
    paired : bool
        Whether the planes of two heads lie side by side.
    """

    def __init__(
        self,
        model: QuantizedModel,
        memories: Memories,
        out: PrefillCommands,
        *,
        array: tuple[int, int],
        queries: Lanes,
        contexts: Lanes,
        weights: Weights,
        paired: bool,
    ) -> None:
        self.model, self.memories, self.out = model, memories, out
        self.rows, self.columns = array
        self.queries, self.contexts = queries, contexts
        self.weights, self.paired = weights, paired

    def scores(self, index: int, block: Block, head: int, cache: Cache, turn: int) -> None:
        """Products of queries and keys of a head, and their exponentials."""
        s, c = self.memories.scratch, self.model.config
        self.out.label(index, "scores")
        d = c.head_dim
        key = head // (c.heads // c.kv_heads) * d
        query = self.queries.places[head]
        tiles = -(-block.seen.rows // self.columns)
        lane = key % self.rows
        modes: dict[str, Any] = {"first_row": lane, "end_row": min(lane + d, self.rows)}
        x, w_other = "q_high", "k_low"
        reads = ["k_high"]
        if self.paired:
            modes["start"] = Start.ADD
            x, w_other = ("q_low", "k_odd") if lane & d else ("q_high", "k_even")
            reads.append("k_even")
        sums = self.out.take_sums(tiles * block.rows, turn)
        self.out.matrix(
            x=s[x] + block.first * self.queries.total + query - lane,
            x_row=self.queries.total,
            x_k=self.rows,
            x_other=0 if self.paired else s["q_low"] - s["q_high"],
            w=cache.planes["k_high"] + key - cache.first - lane,
            w_row=cache.row,
            w_k=self.rows,
            w_n=self.columns * cache.row,
            w_other=cache.planes[w_other] - cache.planes["k_high"],
            sums=sums,
            block=block,
            k=max(1, d // self.rows),
            n=tiles,
            modes=modes | {"causal": Causal.BY_N, "planes": 1, "transposed": 1},
            reads=[span_of("q_high", block), *(cache.spans[name] for name in reads)],
            remember=Remember.SCORES,
        )
        powers = f"powers{turn}"
        shared: dict[str, Any] = {
            "block": block,
            "tiles": tiles,
            "state": self._state(turn),
            "sums": sums,
            "target": s[powers],
            "target_row": self.memories.power_row(block),
            "target_n": self.columns,
            "scale": self.model.layers[index].score_scale,
            "extra": self.model.activation_bits << 16,
            "remember": Remember.SCORES,
        }
        self.out.vector(VectorOp.TOP, **shared)
        # The array reads whole lines of powers: what is behind the last score must be 0.
        shared["tiles"] = round_up(block.seen.rows, self.memories.line) // self.columns
        self.out.vector(VectorOp.EXPONENTIAL, writes=[Span(powers, 0, 1)], **shared)

    def _state(self, turn: int) -> int:
        return self.memories.states + turn * (self.memories.states // 2)

    def context(self, index: int, block: Block, head: int, cache: Cache, turn: int) -> None:
        """Sum of values of a head, by its exponentials."""
        s, c, memories = self.memories.scratch, self.model.config, self.memories
        self.out.label(index, "contexts")
        d = c.head_dim
        key = head // (c.heads // c.kv_heads) * d
        piece = key % self.columns
        n = max(1, d // self.columns)
        sums = 2 * memories.half + turn * memories.contexts
        if not memories.contexts:
            sums = self.out.take_sums(n * block.rows, turn)
        powers = f"powers{turn}"
        self.out.matrix(
            x=s[powers],
            x_row=memories.power_row(block),
            x_k=self.rows,
            w=cache.planes["v"] + key - cache.first - piece,
            w_row=cache.row,
            w_k=self.rows * cache.row,
            w_n=self.columns,
            sums=sums,
            block=block,
            k=-(-block.seen.rows // self.rows),
            n=n,
            modes={"causal": Causal.BY_K},
            reads=[Span(powers, 0, 1), cache.spans["v"]],
            remember=Remember.CONTEXT,
        )
        width = self.contexts.total
        for tile in range(n):
            self.out.vector(
                VectorOp.REQUANTIZE,
                block=block,
                state=self._state(turn),
                sums=sums + tile * block.rows,
                reads=self.weights.scale_reads(index),
                parameters=self.weights.scales(index, "context"),
                target=s["context"]
                + block.first * width
                + self.contexts.places[head]
                - piece
                + tile * self.columns,
                target_row=width,
                extra=self.model.activation_bits << 16,
                flags={
                    "dynamic": 1,
                    "first_lane": piece,
                    "end_lane": min(piece + d, self.columns),
                },
                writes=[span_of("context", block)],
                remember=Remember.CONTEXT,
            )
