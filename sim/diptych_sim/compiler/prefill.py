# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a prompt for the prefill panel: HBM contents and commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.systolic.isa import (
    VECTOR,
    Causal,
    Flags,
    Modes,
    Queue,
    Start,
    StoreOp,
    Target,
    VectorOp,
)
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.commands import CommandList, PrefillProgram, pack_fields
from diptych_sim.compiler.hbm_layout import Lanes, PrefillError, model_image, up
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["PrefillError", "PrefillProgram", "compile_prefill"]

_IDS_IN_BEAT = 16


class _Compiler:
    def __init__(self, model: QuantizedModel, rows: int, columns: int, tokens: Sequence[int]):
        self.model = model
        self.tokens = tokens
        self.count = len(tokens)
        self.rows, self.columns = rows, columns
        self.sizes = panel_sizes(rows, columns)
        self.line = line = self.sizes.line
        c = model.config
        d = c.head_dim
        for what, side in (("rows", rows), ("columns", columns)):
            if d % side and side % d:
                raise PrefillError(
                    f"Head dimension {d} must divide the array's {what} or be a multiple of them, "
                    f"not {side!r}"
                )
        self.queries = Lanes.of(c, rows, line)
        self.contexts = Lanes.of(c, columns, line)
        self.dim = up(c.dim, line)
        self.hidden = up(c.hidden, line)
        self.kv = up(c.kv_dim, line)
        self.positions = up(self.count, line)
        self.image, self.entries = model_image(
            model, columns=columns, line=line, queries=self.queries, contexts=self.contexts
        )
        self.out = CommandList()
        self._place()
        self.last: dict[Queue, int | None] = dict.fromkeys(Queue)
        self.needed: list[int] = []

    # --- memories ------------------------------------------------------------------------------
    def _place(self) -> None:
        c, count = self.model.config, self.count
        layer_bytes = max(self.image.size[f"layer{n}"] for n in range(c.layers))
        score_tiles = self.positions // self.columns
        self.block = min(count, self.sizes.rows, self.sizes.accumulators // score_tiles)
        if count > self.sizes.rows or self.block < 1:
            raise PrefillError(
                f"Prompt must have at most {self.sizes.rows} tokens in this panel, not {count!r}"
            )
        base = 0
        self.scratch: dict[str, int] = {}
        for name, size in {
            "embedding": count * self.dim,
            "normed": count * self.dim,
            "q_high": count * self.queries.total,
            "q_low": count * self.queries.total,
            "k_high": self.positions * self.kv,
            "k_low": self.positions * self.kv,
            "v": self.positions * self.kv,
            "context": count * self.contexts.total,
            "hidden": count * self.hidden,
            "powers": self.block * self.positions,
            "weights0": layer_bytes,
            "weights1": layer_bytes,
            "output": self.image.size["output"],
        }.items():
            self.scratch[name] = base
            base = up(base + size, self.line)
        self._check("scratchpad bytes", base, self.sizes.scratchpad)
        d = c.head_dim
        self.rope_row = max(1, d // self.columns)
        self.x = 0
        self.gated = count * self.dim // self.columns
        self.rope = self.gated + count * self.hidden // self.columns
        self._check("vector entries", self.rope + count * self.rope_row, self.sizes.vectors)
        self._check("accumulator entries", 2 * count, self.sizes.accumulators)
        parameters = self.image.size["parameters"] // 4 // self.columns
        self._check("parameter entries", parameters, self.sizes.parameters)

    def _check(self, what: str, needed: int, there: int) -> None:
        if needed > there:
            raise PrefillError(
                f"Prompt of {self.count} tokens needs {needed} {what} of the prefill panel, which "
                f"has {there}"
            )

    # --- commands ------------------------------------------------------------------------------
    def add(self, queue: Queue, op: Any, *, after: Sequence[int | None] = (), **fields: Any) -> int:
        """Matrix and vector commands take turns; loads and stores wait for what they are given."""
        partner = {
            Queue.MATRIX: Queue.VECTOR,
            Queue.VECTOR: Queue.MATRIX,
            Queue.STORE: Queue.VECTOR,
            Queue.LOAD: None,
        }[queue]
        depends = [*after, self.last[partner] if partner else None]
        if queue in (Queue.MATRIX, Queue.VECTOR):
            depends += self.needed
            if queue is Queue.VECTOR:
                self.needed = []
        number = self.out.add(queue, op, after=depends, **fields)
        self.last[queue] = number
        return number

    def load(self, target: Target, part: str, address: int, **fields: Any) -> int:
        defaults: dict[str, Any] = {
            "hbm": self.image.at[part],
            "bytes": self.image.size[part],
            "rows": 1,
        }
        return self.add(Queue.LOAD, target, target=address, **defaults | fields)

    def matrix(self, *, k: int, n: int, modes: dict[str, Any] | None = None, **fields: Any) -> int:
        given = {"end_row": self.rows} | (modes or {})
        return self.add(
            Queue.MATRIX, 0, tiles=k | n << 16, modes=pack_fields(Modes(), given, "Modes"), **fields
        )

    def vector(
        self,
        op: VectorOp,
        *,
        rows: int,
        tiles: int = 1,
        flags: dict[str, Any] | None = None,
        after: Sequence[int | None] = (),
        **fields: Any,
    ) -> int:
        given = {"end_lane": self.columns, "square_shift": self.model.square_shift}
        bits = pack_fields(Flags(), given | (flags or {}), "Flags")
        assert fields.keys() <= {name for name, _ in VECTOR}
        return self.add(
            Queue.VECTOR, op, after=after, extent=rows | tiles << 16, flags=bits, **fields
        )

    # --- program -------------------------------------------------------------------------------
    def run(self) -> PrefillProgram:
        m, c, count = self.model, self.model.config, self.count
        model_bytes = len(self.image.data)
        weights = sum(self.image.size[f"layer{n}"] for n in range(c.layers))
        weights += self.image.size["output"] + self.image.size["parameters"]
        ids = np.zeros(up(count, _IDS_IN_BEAT), dtype="<u4")
        ids[:count] = self.tokens
        self.image.add("ids", ids)
        self._embed()
        output = None
        loads = [self._load_weights(0, None)]
        for index in range(c.layers):
            after = self.last[Queue.MATRIX]
            if index + 1 < c.layers:
                loads.append(self._load_weights(index + 1, after))
            else:
                output = self.load(Target.SCRATCHPAD, "output", self.scratch["output"])
            self.needed = [loads[index]]
            self._layer(index)
        self._norm()
        assert output is not None
        self.needed = [output]
        tiles = up(c.vocab, self.columns) // self.columns
        self.matrix(
            x=self.scratch["normed"] + (count - 1) * self.dim,
            x_row=self.dim,
            x_k=self.rows,
            w=self.scratch["output"],
            w_row=up(c.vocab, self.line),
            w_k=self.rows * up(c.vocab, self.line),
            w_n=self.columns,
            sums_n=1,
            rows=1,
            k=self.dim // self.rows,
            n=tiles,
        )
        self.vector(
            VectorOp.ARGMAX,
            rows=1,
            tiles=tiles,
            sums_n=1,
            parameters=self.entries["output"],
            extra=c.vocab | m.logit_bits << 16,
        )
        self.add(Queue.STORE, StoreOp.TOKEN, rows=1, first=count - 1)
        self.image.add("program", np.array(self.out.words(), dtype="<u4"))
        assert model_bytes <= self.image.at["ids"]
        return PrefillProgram(bytes(self.image.data), self.image.at["program"], self.out, weights)

    def _embed(self) -> None:
        c, count = self.model.config, self.count
        loads = []
        for start in range(0, count, _IDS_IN_BEAT):
            group = {
                "rows": min(_IDS_IN_BEAT, count - start),
                "ids": self.image.at["ids"] + 4 * start,
            }
            loads.append(
                self.load(
                    Target.GATHER,
                    "embedding",
                    self.scratch["embedding"] + start * self.dim,
                    bytes=c.dim,
                    pitch=up(c.dim, 64),
                    target_pitch=self.dim,
                    **group,
                )
            )
            loads.append(
                self.load(
                    Target.GATHER_DYNAMIC,
                    "embedding_scale",
                    start,
                    bytes=4,
                    pitch=64,
                    target_pitch=1,
                    **group,
                )
            )
        row_bytes = 2 * max(c.head_dim, self.columns)
        self.load(Target.VECTOR, "rope", self.rope, bytes=count * row_bytes)
        loads.append(self.load(Target.PARAMETERS, "parameters", 0))
        self.vector(
            VectorOp.EMBED,
            rows=count,
            tiles=self.dim // self.columns,
            target=self.scratch["embedding"],
            target_row=self.dim,
            target_n=self.columns,
            vector=self.x,
            vector_row=self.dim // self.columns,
            flags={"restart": 1},
            after=loads[-1:],
        )

    def _load_weights(self, index: int, after: int | None) -> int:
        part = f"layer{index}"
        return self.load(
            Target.SCRATCHPAD, part, self.scratch[f"weights{index % 2}"], after=[after]
        )

    def _norm(self) -> None:
        tiles = self.dim // self.columns
        self.vector(VectorOp.NORM_SCALES, rows=self.count, scale=self.model.epsilon)
        self.vector(
            VectorOp.QUANTIZE,
            rows=self.count,
            tiles=tiles,
            target=self.scratch["normed"],
            target_row=self.dim,
            target_n=self.columns,
            vector=self.x,
            vector_row=tiles,
        )

    def _product(
        self, index: int, name: str, x: str, width: int, out: int, *, start: int, n: int, sums: int
    ) -> None:
        """Column tiles ``start`` to ``start + n`` of ``x`` [count, width] times a matrix."""
        layer = f"layer{index}"
        offset = self.image.at[f"{layer}.{name}"] - self.image.at[layer]
        self.matrix(
            x=self.scratch[x],
            x_row=width,
            x_k=self.rows,
            w=self.scratch[f"weights{index % 2}"] + offset + start * self.columns,
            w_row=out,
            w_k=self.rows * out,
            w_n=self.columns,
            sums=sums,
            sums_n=self.count,
            rows=self.count,
            k=width // self.rows,
            n=n,
        )

    def _groups(self, tiles: int, entries: int) -> list[tuple[int, int]]:
        """Split column tiles so that the sums of a group fit into ``entries``."""
        most = max(1, entries // self.count)
        return [(start, min(most, tiles - start)) for start in range(0, tiles, most)]

    def _layer(self, index: int) -> None:
        s, count, columns = self.scratch, self.count, self.columns
        layer = f"layer{index}"
        self._norm()
        stored = self.last[Queue.STORE]
        for name, width, target, op in (
            ("q", self.queries.total, "q_high", VectorOp.ROTATE),
            ("k", self.kv, "k_high", VectorOp.ROTATE),
            ("v", self.kv, "v", VectorOp.BYTES),
        ):
            rotation = {}
            if op is VectorOp.ROTATE:
                rotation = {
                    "vector": self.rope,
                    "vector_row": self.rope_row,
                    "extra": s[f"{name}_low"] - s[target],
                }
            for start, n in self._groups(width // columns, self.sizes.accumulators):
                self._product(
                    index, f"w{name}", "normed", self.dim, width, start=start, n=n, sums=0
                )
                self.vector(
                    op,
                    rows=count,
                    tiles=n,
                    sums_n=count,
                    parameters=self.entries[f"{layer}.{name}"] + start,
                    target=s[target] + start * columns,
                    target_row=width,
                    target_n=columns,
                    flags={"dynamic": 1},
                    after=[stored],
                    **rotation,
                )
        kv = self.model.config.kv_dim
        for op, source, source2 in (
            (StoreOp.KEYS, "k_high", "k_low"),
            (StoreOp.VALUES, "v", "v"),
        ):
            self.add(
                Queue.STORE,
                op,
                bytes=kv,
                rows=count,
                source=s[source],
                source2=s[source2],
                source_pitch=self.kv,
                layer=index,
            )
        for head in range(self.model.config.heads):
            for first in range(0, count, self.block):
                self._attend(index, head, first, min(self.block, count - first))
        self._residual(index, "wo", "context", self.contexts.total, "o", dynamic=False)
        self._norm()
        self._gate(index)
        self._residual(index, "w_down", "hidden", self.hidden, "down", dynamic=True)

    def _attend(self, index: int, head: int, first: int, rows: int) -> None:
        """Attention of one head, for ``rows`` positions from ``first``."""
        s, c, m = self.scratch, self.model.config, self.model
        d = c.head_dim
        key = head // (c.heads // c.kv_heads) * d
        query = self.queries.places[head]
        tiles = -(-(first + rows) // self.columns)
        lane = key % self.rows
        lanes = {"first_row": lane, "end_row": min(lane + d, self.rows)}
        for x, w, start in (
            ("q_high", "k_high", Start.OVERWRITE),
            ("q_high", "k_low", Start.ADD_TO_HIGH),
            ("q_low", "k_high", Start.ADD),
        ):
            self.matrix(
                x=s[x] + first * self.queries.total + query - lane,
                x_row=self.queries.total,
                x_k=self.rows,
                w=s[w] + key - lane,
                w_row=self.kv,
                w_k=self.rows,
                w_n=self.columns * self.kv,
                sums_n=rows,
                rows=rows,
                first=first,
                k=max(1, d // self.rows),
                n=tiles,
                modes=lanes | {"causal": Causal.BY_N, "start": start, "transposed": 1},
            )
        scores: dict[str, Any] = {"rows": rows, "tiles": tiles, "sums_n": rows, "first": first}
        self.vector(VectorOp.TOP, **scores)
        self.vector(
            VectorOp.EXPONENTIAL,
            target=s["powers"],
            target_row=self.positions,
            target_n=self.columns,
            scale=m.layers[index].score_scale,
            **scores,
        )
        piece = key % self.columns
        n = max(1, d // self.columns)
        self.matrix(
            x=s["powers"],
            x_row=self.positions,
            x_k=self.rows,
            w=s["v"] + key - piece,
            w_row=self.kv,
            w_k=self.rows * self.kv,
            w_n=self.columns,
            sums_n=rows,
            rows=rows,
            first=first,
            k=-(-(first + rows) // self.rows),
            n=n,
            modes={"causal": Causal.BY_K, "unsigned": 1},
        )
        for tile in range(n):
            self.vector(
                VectorOp.BYTES,
                rows=rows,
                sums=tile * rows,
                parameters=self.entries[f"layer{index}.context"],
                target=s["context"]
                + first * self.contexts.total
                + self.contexts.places[head]
                - piece
                + tile * self.columns,
                target_row=self.contexts.total,
                flags={
                    "dynamic": 1,
                    "first_lane": piece,
                    "end_lane": min(piece + d, self.columns),
                },
            )

    def _residual(
        self, index: int, weights: str, x: str, width: int, scale: str, *, dynamic: bool
    ) -> None:
        tiles = self.dim // self.columns
        for start, n in self._groups(tiles, self.sizes.accumulators):
            self._product(index, weights, x, width, self.dim, start=start, n=n, sums=0)
            self.vector(
                VectorOp.ADD,
                rows=self.count,
                tiles=n,
                sums_n=self.count,
                parameters=self.entries[f"layer{index}.{scale}"] + start,
                vector=self.x + start,
                vector_row=tiles,
                flags={"dynamic": dynamic, "restart": start == 0},
            )

    def _gate(self, index: int) -> None:
        tiles = self.hidden // self.columns
        half = self.sizes.accumulators // 2
        layer = f"layer{index}"
        for start, n in self._groups(tiles, half):
            for name, sums in (("w_gate", 0), ("w_up", half)):
                self._product(
                    index, name, "normed", self.dim, self.hidden, start=start, n=n, sums=sums
                )
            self.vector(
                VectorOp.GATE,
                rows=self.count,
                tiles=n,
                sums_n=self.count,
                parameters=self.entries[f"{layer}.gate"] + start,
                extra=half | (self.entries[f"{layer}.up"] + start) << 16,
                vector=self.gated + start,
                vector_row=tiles,
                scale=self.model.layers[index].hidden_scale,
                flags={"dynamic": 1, "restart": start == 0},
            )
        self.vector(VectorOp.HIDDEN_SCALES, rows=self.count)
        self.vector(
            VectorOp.QUANTIZE,
            rows=self.count,
            tiles=tiles,
            target=self.scratch["hidden"],
            target_row=self.hidden,
            target_n=self.columns,
            vector=self.gated,
            vector_row=tiles,
        )


def compile_prefill(
    model: QuantizedModel, rows: int, columns: int, tokens: Sequence[int]
) -> PrefillProgram:
    """Compile a model and a prompt for an array of ``rows`` x ``columns``.

    The model's part of the HBM comes first and does not depend on the prompt.

    Raises
    ------
    PrefillError
        If the prompt does not fit into the panel, or the heads do not fit the array.
    ValueError
        If a side of the array is not a power of two from 4 to 128.
    """
    return _Compiler(model, rows, columns, tokens).run()
