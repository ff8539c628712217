# SPDX-License-Identifier: BSD-2-Clause
"""Pieces of a prefill: what is loaded, embedding and norm, queries, keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.systolic.isa import TABLE_WORDS, Target, VectorOp
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import (
    HbmImage,
    check_heads,
    embedding_pitch,
    lanes_of,
    model_image,
    rope_bytes,
    round_up,
)
from diptych_sim.compiler.prefill.attention import Attention
from diptych_sim.compiler.prefill.commands import PrefillCommands, Remember
from diptych_sim.compiler.prefill.memories import MATRICES, Memories, fitting, span_of
from diptych_sim.compiler.prefill.noise import FirstNoise
from diptych_sim.compiler.prefill.prompts import Block, Prompts
from diptych_sim.compiler.prefill.weights import ResidentWeights, StreamedWeights, Weights
from diptych_sim.golden.machine import HEAD_BITS, top_word
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["IDS_IN_BEAT", "PrefillPieces"]

IDS_IN_BEAT = 16
_TABLE_CYCLES = 8
"""Cycles that a token's scale may cost in a gather, beats and latency, beside that in a table."""


class PrefillPieces:
    """Writes pieces of a prefill into ``out``."""

    def __init__(
        self,
        model: QuantizedModel,
        rows: int,
        columns: int,
        prompts: Prompts,
        *,
        image: tuple[HbmImage, dict[str, int]] | None = None,
        may_pair: bool = True,
        rows_whole: bool = False,
        seeds: Sequence[int] = (),
        drawn: Prompts | None = None,
    ):
        drawn = drawn or prompts  # those that seeds are of, of which prompts may be a part
        assert len(seeds) == (0 if model.noise_shift is None else len(drawn.tokens))
        self.model = model
        self.seeds = seeds
        self.prompts = prompts
        self.count = prompts.count
        self.rows, self.columns = rows, columns
        c = model.config
        d = c.head_dim
        check_heads(c, rows, columns)
        self.queries, self.contexts = lanes_of(c, (rows, columns))
        # Planes of a head side by side fill rows of the array that one head would leave empty.
        # Norms of heads have a scale for each, so that these are not rotated together.
        self.paired = may_pair and 2 * d <= min(rows, columns) and not c.qk_norm
        self.image, self.entries = image or model_image(model, array=(rows, columns))
        self.rows_whole = rows_whole
        self.memories = self._memories(
            model,
            self.image,
            array=(rows, columns),
            prompts=prompts,
            queries=self.queries,
            contexts=self.contexts,
            paired=self.paired,
        )
        self.out = PrefillCommands(
            self.image, self.memories, rows=rows, columns=columns, square_shift=model.square_shift
        )
        kind = StreamedWeights if self.memories.streamed else ResidentWeights
        self.noise = FirstNoise(self.out, self.image, model, drawn, seeds)
        self.weights: Weights = kind(self.out, self.memories, (rows, columns), self.entries)
        self.attention = Attention(
            model,
            self.memories,
            self.out,
            array=(rows, columns),
            queries=self.queries,
            contexts=self.contexts,
            weights=self.weights,
            paired=self.paired,
        )

    def _memories(self, *where: Any, **rest: Any) -> Memories:
        """Return the panel's memories; programs that keep rows whole need whole matrices, too."""
        if self.rows_whole:
            return Memories(*where, rows_whole=True, **rest)
        return fitting(Memories, *where, **rest)

    def _add_ids(self, tokens: Sequence[int]) -> None:
        ids = np.zeros(round_up(len(tokens), IDS_IN_BEAT), dtype="<u4")
        ids[: len(tokens)] = tokens
        self.image.add("ids", ids)

    def _first_id(self) -> int:
        """Return where the tokens of row 0 and those behind begin among all that were added."""
        return 0

    # --- loads ---------------------------------------------------------------------------------
    def _load_rows(self, block: Block) -> None:
        """Load rows of the embedding and their scales."""
        c, out, memories = self.model.config, self.out, self.memories
        out.label(None, "load prompt")
        # A table takes a cycle for each token of the vocabulary, a gather a beat for each of these.
        picks = c.vocab <= min(TABLE_WORDS, _TABLE_CYCLES * self.count)
        if picks and block.first == 0:
            out.load(Target.TABLE, "embedding_table", 0, fills=Span("table", 0, 1))
        for start in range(round_up(block.first, IDS_IN_BEAT), block.end, IDS_IN_BEAT):
            rows = min(IDS_IN_BEAT, self.count - start)
            group = {"rows": rows, "ids": self.image.at["ids"] + 4 * (self._first_id() + start)}
            out.load(
                Target.GATHER,
                "embedding",
                memories.scratch["embedding"] + start * memories.dim,
                fills=Span("embedding", start, start + rows),
                bytes=memories.dim,  # with zeros to the end of a line
                pitch=embedding_pitch(c, memories.line),
                target_pitch=memories.dim,
                remember=Remember.PRODUCT,
                **group,
            )
            out.load(
                Target.PICK_DYNAMIC if picks else Target.GATHER_DYNAMIC,
                "embedding_scale",
                start,
                fills=Span("states", start, start + rows),
                bytes=4,
                pitch=64,
                target_pitch=1,
                remember=Remember.SCORES,
                **group,
            )

    def _load_prompt(self, block: Block) -> None:
        """Load what a block needs at first; for the first block, the tables as well."""
        self._load_rows(block)
        if block.first != 0:
            return
        # What the first product needs comes first.
        if self.model.tie is not None:
            self._load_weights(0, ["w_tie"])
        self._load_weights(0, MATRICES[:1])
        self.out.label(None, "load prompt")
        self._load_tables()
        self._load_weights(0, MATRICES[1:3])

    def _load_tables(self) -> None:
        """Load all scales, unless they come by layers, and RoPE's factors of each prompt."""
        self.weights.load_scales(None)
        for prompt in self.prompts.blocks:
            self._load_rope(prompt, 0)

    def _load_rope(self, rows: Block, position: int) -> None:
        """Load RoPE's factors of rows, the first of which is at ``position``."""
        row_bytes = rope_bytes(self.model.config, self.columns)
        self.out.load(
            Target.VECTOR,
            "rope",
            self.memories.rope + rows.first * self.memories.rope_row,
            fills=Span("rope", rows.first, rows.end),
            hbm=self.image.at["rope"] + position * row_bytes,
            bytes=rows.rows * row_bytes,
        )

    def _load_weights(self, index: int, names: Sequence[str]) -> None:
        self.out.label(index, "load weights")
        for name in names:
            self.weights.load(index, name)
        if MATRICES[0] in names:
            self.weights.load_scales(index)
            self._load_biases(index)

    def _load_output(self) -> None:
        self.out.label(None, "load weights")
        self.weights.load_output()

    # --- pieces of a layer ---------------------------------------------------------------------
    def _vectors(self, block: Block, base: int, width: int) -> dict[str, int]:
        """Fields for a block of rows of ``width`` elements in vector memory."""
        tiles = width // self.columns
        return {"vector": base + block.first * tiles, "vector_row": tiles}

    def _target(self, name: str, block: Block, width: int) -> dict[str, int]:
        """Fields for a block of rows of ``width`` bytes in the scratchpad."""
        target = self.memories.scratch[name] + block.first * width
        return {"target": target, "target_row": width, "target_n": self.columns}

    def _embed(self, block: Block) -> None:
        memories = self.memories
        self.out.label(None, "embedding")
        self.out.vector(
            VectorOp.EMBED,
            block=block,
            tiles=memories.dim // self.columns,
            flags={"restart": 1},
            extra=self.model.residual_bits << 16,
            reads=[span_of("embedding", block), span_of("states", block)],
            writes=[span_of("x", block)],
            remember=Remember.NORM,
            **self._target("embedding", block, memories.dim),
            **self._vectors(block, memories.x, memories.dim),
        )
        if self.model.tie is not None:
            self._residual(0, "w_tie", "embedding", block, dynamic=True)

    def _residual(self, index: int, weights: str, x: str, block: Block, *, dynamic: bool) -> None:
        """Add the rows of ``x`` times a matrix to the residual stream."""
        memories = self.memories
        operation = {"wo": "output", "w_down": "down", "w_tie": "embedding"}[weights]
        self.out.label(None if weights == "w_tie" else index, operation)
        scale = {"wo": "o", "w_down": "down", "w_tie": "tie"}[weights]
        place = self._vectors(block, memories.x, memories.dim)
        for start, n in memories.groups(memories.dim // self.columns, block.rows, self._width(x)):
            sums = self.out.take_sums(n * block.rows)
            self._product(index, weights, x, block, (start, n), sums)
            self.out.vector(
                VectorOp.ADD,
                block=block,
                tiles=n,
                sums=sums,
                reads=self.weights.scale_reads(index),
                parameters=self.weights.scales(index, scale) + start,
                flags={"dynamic": dynamic, "restart": start == 0},
                extra=self.model.residual_bits << 16,
                vector=place["vector"] + start,
                vector_row=place["vector_row"],
                state=block.first + (memories.states if weights == "wo" else 0),
            )

    def _norm(self, layer: int, block: Block) -> None:
        """RMSNorm of the rows ahead of attention of a layer, or of the logits if there is none."""
        top = self.model.layers[layer - 1].next_norm_top if layer else 0
        half = self.memories.states
        if layer < len(self.model.layers):
            self._normalize(layer, block, top, own=0, to=half)
        else:
            self._normalize(None, block, top, own=0, to=0)

    def _mlp_norm(self, layer: int, block: Block) -> None:
        """RMSNorm of the rows ahead of the gated network of a layer."""
        top = self.model.layers[layer].mlp_norm_top
        self._normalize(layer, block, top, own=self.memories.states, to=0)

    def _normalize(self, layer: int | None, block: Block, top: int, *, own: int, to: int) -> None:
        """RMSNorm by the rows' own magnitudes, or with ``top`` by those of the norm before.

        Magnitudes ahead of attention are in the first half of the row states, those ahead of the gated
        network in the other one: so each is still there when the next norm comes, as statistics of
        heads go to the second half, and those of hidden elements to the first. The rows' own ones are
        from ``own`` on, and their dynamic scales go to states from ``to`` on.
        """
        memories = self.memories
        self.out.label(layer, "norm")
        state = memories.states - own if top else own
        bits = self.model.activation_bits
        shared: dict[str, Any] = {
            "block": block,
            "tiles": memories.dim // self.columns,
            "scale": top or top_word(bits),
            "extra": bits << 16,
            "epsilon": self.model.epsilon,
            "state": state + block.first,
            "flags": {"dynamic": state != to},
            "remember": Remember.NORM,
            **self._target("normed", block, memories.dim),
            **self._vectors(block, memories.x, memories.dim),
        }
        self.out.vector(VectorOp.NORM, writes=[span_of("normed", block)], **shared)

    def _product(
        self, index: int, name: str, x: str, block: Block, columns: tuple[int, int], sums: int
    ) -> None:
        """Column tiles ``columns`` (first, number) of the rows of ``x`` times a matrix."""
        memories = self.memories
        start, n = columns
        width = self._width(x)
        fields, reads = self.weights.part(
            f"{name}{index % 2}", f"layer{index}.{name}", width, start, n
        )
        self.out.matrix(
            x=memories.scratch[x] + block.first * width,
            x_row=width,
            x_k=self.rows,
            sums=sums,
            block=block,
            k=width // self.rows,
            n=n,
            reads=[span_of(x, block), *reads],
            **fields,
        )

    def _width(self, x: str) -> int:
        """Bytes of a row of what a matrix multiplies."""
        memories = self.memories
        return {"embedding": memories.dim, "normed": memories.dim, "hidden": memories.hidden}.get(
            x, self.contexts.total
        )

    def _load_biases(self, index: int) -> None:
        """Load the biases of a layer, if the model has any, beside those of the one before."""
        if not self.model.config.qkv_bias:
            return
        self.out.label(index, "load weights")
        place = f"biases{index % 2}"
        part, entry = f"layer{index}.biases", self._bias_entry(index)
        self.out.load(Target.BIASES, part, entry, fills=Span(place, 0, 1))

    def _bias_entry(self, index: int) -> int:
        return index % 2 * (self.memories.sizes.biases // 2)

    def _biases(self, index: int, name: str, start: int) -> dict[str, Any]:
        """Fields for the biases of column tiles from ``start`` on, if the model has any."""
        if not self.model.config.qkv_bias:
            return {}
        before = {"q": 0, "k": self.queries.total, "v": self.queries.total + self.memories.kv}
        return {"scale": self._bias_entry(index) + before[name] // self.columns + start}

    def _project(self, index: int, name: str, block: Block) -> None:
        """Queries (``q``), keys (``k``) or values (``v``) of a block."""
        if name != "v" and self.model.config.qk_norm:
            self._project_normed(index, name, block)
            return
        memories = self.memories
        self.out.label(index, {"q": "queries", "k": "keys", "v": "values"}[name])
        width = self.queries.total if name == "q" else memories.kv
        target = {"q": "q_high", "k": "k_high", "v": "v"}[name]
        fields: dict[str, Any] = {"extra": 8 << 16}
        reads = [Span("parameters", 0, 1), *self.weights.scale_reads(index)]
        biased = int(self.model.config.qkv_bias)
        if biased:
            reads.append(Span(f"biases{index % 2}", 0, 1))
        op = VectorOp.REQUANTIZE
        if name != "v":
            op = VectorOp.ROTATE
            reads.append(span_of("rope", block))
            low = memories.scratch[f"{name}_low"] - memories.scratch[target]
            rope = memories.rope + block.first * memories.rope_row
            fields = {"extra": low, "vector": rope, "vector_row": memories.rope_row}
        pair = self.model.config.head_dim if self.paired else 0
        kinds = [(target, {"pair": pair} if name == "q" else {})]
        if name == "k" and pair:
            # Beside the planes that are handed off: those that meet both planes of a query.
            kinds.append(("k_even", {"pair": pair, "low_first": 1}))
        # RoPE's factors are those of a whole head.
        unit = 1 if name == "v" else memories.rope_row
        for start, n in memories.groups(width // self.columns, block.rows, memories.dim, unit=unit):
            sums = self.out.take_sums(n * block.rows)
            self._product(index, f"w{name}", "normed", block, (start, n), sums)
            for place, flags in kinds:
                at = self._target(place, block, width if name == "q" else memories.kv_row)
                self.out.vector(
                    op,
                    block=block,
                    tiles=n,
                    state=memories.states + block.first,
                    sums=sums,
                    parameters=self.weights.scales(index, name) + start,
                    flags={"dynamic": 1, "biased": biased, **flags},
                    reads=reads,
                    writes=self._rows_of(place, block),
                    **fields | at | {"target": at["target"] + start * self.columns},
                    **self._biases(index, name, start),
                )

    def _project_normed(self, index: int, name: str, block: Block) -> None:
        """Queries or keys of a block, each head of which is normalized ahead of its rotation."""
        c, memories, d = self.model.config, self.memories, self.model.config.head_dim
        self.out.label(index, {"q": "queries", "k": "keys"}[name])
        layer = self.model.layers[index]
        width = self.queries.total if name == "q" else memories.kv
        row = width if name == "q" else memories.kv_row
        places = self.queries.places if name == "q" else [d * n for n in range(c.kv_heads)]
        place = f"{name}_high"
        low = memories.scratch[f"{name}_low"] - memories.scratch[place]
        tiles = memories.rope_row
        parts = memories.groups(width // self.columns, block.rows, memories.dim, unit=tiles)
        for start, n in parts:
            sums = self.out.take_sums(n * block.rows)
            self._product(index, f"w{name}", "normed", block, (start, n), sums)
            for at in places:
                tile, lane = at // self.columns - start, at % self.columns
                if not 0 <= tile < n:
                    continue
                shared: dict[str, Any] = {
                    "block": block,
                    "tiles": tiles,
                    "state": memories.states + block.first,
                    **self._target(place, block, row),
                }
                shared["target"] += at - lane
                flags = {"first_lane": lane, "end_lane": min(lane + d, self.columns)}
                values: dict[str, Any] = self._vectors(block, memories.heads, tiles * self.columns)
                self.out.vector(
                    VectorOp.VALUES,
                    sums=sums + tile * block.rows,
                    parameters=self.weights.scales(index, name) + start + tile,
                    flags={"dynamic": 1, "restart": 1, **flags},
                    extra=16 << 16,
                    reads=[Span("parameters", 0, 1), *self.weights.scale_reads(index)],
                    **shared | values,
                )
                self.out.vector(
                    VectorOp.NORM,
                    scale=top_word(HEAD_BITS),
                    extra=HEAD_BITS << 16,
                    epsilon=getattr(layer, f"{name}_epsilon"),
                    # The scale of a head stands apart from that of its row.
                    flags={"square_shift": 0, "dynamic": 1, **flags},
                    writes=self._rows_of(place, block),
                    **shared | values,
                )
                shared["state"] = block.first
                self.out.vector(
                    VectorOp.ROTATE_AGAIN,
                    parameters=self.weights.scales(index, f"{name}_norm"),
                    flags={"dynamic": 1, **flags},
                    extra=low,
                    vector=memories.rope + block.first * memories.rope_row,
                    vector_row=memories.rope_row,
                    reads=[
                        span_of("rope", block),
                        Span("parameters", 0, 1),
                        *self.weights.scale_reads(index),
                    ],
                    writes=self._rows_of(place, block),
                    **shared,
                )

    def _rows_of(self, name: str, block: Block) -> list[Span]:
        """Return what a block's queries, keys or values are."""
        return [span_of(name, block)]
