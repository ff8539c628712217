# SPDX-License-Identifier: BSD-2-Clause
"""What the tiles' memories hold of a model: all tiles at once, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.decode.placement import Placement, State
from diptych_sim.golden import numbers
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel

__all__ = ["loaded_spans", "tile_images"]

Index = NDArray[np.intp]


def tile_images(
    model: QuantizedModel,
    place: Placement,
    *,
    turns: Sequence[Sequence[tuple[int, int]]],
    prompts: Sequence[Sequence[int]] = (),
) -> NDArray[np.uint32]:
    """Return the SRAM of all tiles, [rows, columns, words]; KV caches and buffers are zeros.

    Parameters
    ----------
    turns : sequence
        For each row and sequence, how many positions the row holds, and in how many rounds it is
        due.
    prompts : sequence of sequence of int
        Prompts that the mesh reads itself.
    """
    return _Images(model, place).fill(turns, prompts)


def loaded_spans(model: QuantizedModel, place: Placement) -> list[tuple[int, int]]:
    """Return the addresses that are loaded: neither KV caches nor buffers, but for epsilons."""
    first = place.at("prompts") if place.forced else place.at("rope_table")
    spans = [(first, place.layers_base)]
    for n in range(place.sequences):
        end = place.at("x", n) + 4 * place.chunk
        spans.append((end, end + 4))
    for layer in range(model.config.layers):
        base = layer * place.layer_bytes
        spans.append((base + place.at("kqv"), base + place.at("keys")))
    return spans


class _Images:
    """Images of all tiles, and which elements of the model each row and column has; -1 is none."""

    def __init__(self, model: QuantizedModel, place: Placement) -> None:
        c, p = model.config, place
        self.model, self.place = model, place
        self.image = np.zeros((p.rows, p.columns, _up(p.used_bytes, 8)), dtype=np.uint8)
        self.residual = _dealt(c.dim, p.rows, p.chunk)
        self.hidden = _dealt(c.hidden, p.columns, p.hidden)
        self.vocabulary = _dealt(c.vocab, p.columns, p.vocabulary)
        # Columns ``unit * split`` on share heads; each has a slice of them.
        unit, slice_ = np.divmod(np.arange(p.columns), p.split)
        group = c.heads // c.kv_heads
        first = unit * p.heads
        heads = first[:, None] + np.arange(p.heads)
        self.queries = self._elements(heads, heads < c.heads, slice_)
        kv_heads = (first // group)[:, None] + np.arange(p.kv_heads)
        end = np.minimum(first + p.heads, c.heads)
        used = (kv_heads < -(-end // group)[:, None]) & (first < c.heads)[:, None]
        self.keys = self._elements(kv_heads, used, slice_)
        pair = p.width // 2
        factors = np.arange(0, c.head_dim // 2).reshape(p.split, pair)
        self.factors = factors[slice_]
        self.slices = slice_

    def _elements(self, heads: Index, used: NDArray[np.bool_], slice_: Index) -> Index:
        p, d = self.place, self.model.config.head_dim
        element = slice_[:, None, None] * p.width + np.arange(p.width)
        index = np.where(used[:, :, None], heads[:, :, None] * d + element, -1)
        return index.reshape(len(heads), -1)

    def fill(
        self, turns: Sequence[Sequence[tuple[int, int]]], prompts: Sequence[Sequence[int]]
    ) -> NDArray[np.uint32]:
        """Write everything, and return it as words."""
        m, p = self.model, self.place
        for n in range(p.sequences):
            self._words(p.at("x", n) + 4 * p.chunk, np.array([m.epsilon]))
        for n, prompt in enumerate(prompts if p.forced else ()):
            self._words(p.at("prompts") + 4 * p.forced * n, np.array(prompt[1:], dtype=np.int64))
        self._rope()
        for name, matrix, scale in (
            ("embedding", m.embedding, m.embedding_scale),
            ("output", m.output, m.output_scale),
        ):
            self._bytes(p.at(name), _part(matrix, self.vocabulary, self.residual))
            self._words(p.at(f"{name}_scale"), _some(scale, self.vocabulary))
        for n in range(p.sequences if p.in_memory else 0):
            states = np.zeros((p.rows, 1, len(State)), dtype=np.int64)
            for row, each in enumerate(turns):
                states[row, 0, [State.COUNT, State.TURN]] = each[n]
            self._words(p.at("state", n), states)
        for number, layer in enumerate(m.layers):
            self._layer(layer, number * p.layer_bytes)
        return self.image.view("<u4")

    def _bytes(self, address: int, values: NDArray[np.int8]) -> None:
        """Write bytes [rows or 1, columns or 1, ..., any] at an address of each tile."""
        data = values.reshape(*values.shape[:2], -1).view(np.uint8)
        self.image[:, :, address : address + data.shape[2]] = data

    def _words(self, address: int, values: NDArray[np.int64]) -> None:
        """Write words; [any] for all tiles, [columns, any], or [rows, columns, any]."""
        data = (values & 0xFFFFFFFF).astype("<u4")
        data = data.reshape((1,) * (3 - data.ndim) + data.shape)
        self.image[:, :, address : address + 4 * data.shape[2]] = np.ascontiguousarray(data).view(
            np.uint8
        )

    def _rope(self) -> None:
        """RoPE factors of the rows' positions, of a column's elements of a head."""
        m, p = self.model, self.place
        at = p.at("rope_table")
        for row in range(p.rows):
            factors = m.rope[row :: p.rows][: p.slots]  # position, pair, cosine and sine
            parts = factors.astype("<i2")[:, self.factors].transpose(1, 0, 2, 3)
            data = np.ascontiguousarray(parts).reshape(p.columns, -1).view(np.uint8)
            self.image[row, :, at : at + data.shape[1]] = data

    def _layer(self, w: QuantizedLayer, base: int) -> None:
        p = self.place

        def at(name: str) -> int:
            return base + p.at(name)

        kqv = [
            _part(matrix, index, self.residual)
            for matrix, index in ((w.wk, self.keys), (w.wq, self.queries), (w.wv, self.keys))
        ]
        self._bytes(at("kqv"), np.concatenate(kqv, axis=2))
        self._words(at("kqv_scale"), self._projection_scales(w))
        if w.q_norm is not None and w.k_norm is not None:
            for name, gains in (("q_norm", w.q_norm), ("k_norm", w.k_norm)):
                self._words(at(name), gains.reshape(p.split, p.width)[self.slices])
        self._bytes(at("wo"), _part(w.wo.T, self.queries, self.residual).swapaxes(2, 3).copy())
        pair = np.stack([_part(m, self.hidden, self.residual) for m in (w.w_gate, w.w_up)], axis=3)
        self._bytes(at("w_gate_up"), pair)
        scales = [_some(scale, self.hidden) for scale in (w.gate_scale, w.up_scale)]
        self._words(at("gate_up_scale"), np.stack(scales, axis=2).reshape(p.columns, -1))
        self._bytes(
            at("w_down"), _part(w.w_down.T, self.hidden, self.residual).swapaxes(2, 3).copy()
        )
        for name, scale in (("o_scale", w.o_scale), ("down_scale", w.down_scale)):
            self._words(at(name), _some(scale, self.residual)[:, None])
        gate_shift = numbers.GATE_FRACTION - w.gate_fraction
        constants = [int(w.score_scale), int(w.context_scale), gate_shift]
        self._words(at("constants"), np.array(constants, dtype=np.int64))
        if w.q_norm is not None:
            # Of the columns that share a head, the first has the epsilon of its norm.
            epsilons = np.outer(self.slices == 0, [w.q_epsilon, w.k_epsilon])
            self._words(at("constants") + 4 * len(constants), epsilons)

    def _projection_scales(self, w: QuantizedLayer) -> NDArray[np.int64]:
        """Return scale words of keys, queries and values, each with its bias if there are any."""
        indices = (self.keys, self.queries, self.keys)

        def parts(*values: NDArray[np.int64]) -> NDArray[np.int64]:
            some = [_some(v, index) for v, index in zip(values, indices, strict=True)]
            return np.concatenate(some, axis=1)

        scales = parts(w.k_scale, w.q_scale, w.v_scale)
        if w.bk is None or w.bq is None or w.bv is None:
            return scales
        biases = parts(w.bk, w.bq, w.bv)
        return np.stack([scales, biases], axis=2).reshape(len(scales), -1)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _dealt(elements: int, parts: int, each: int) -> Index:
    """Return which elements each part has: ``each`` of them, the last ones fewer."""
    index = np.arange(parts * each).reshape(parts, each)
    return np.where(index < elements, index, -1)


def _some(values: NDArray[np.int64], index: Index) -> NDArray[np.int64]:
    """Return elements by their numbers, zeros for none."""
    return np.append(values, 0)[index]


def _part(matrix: NDArray[np.int8], outputs: Index, inputs: Index) -> NDArray[np.int8]:
    """Return the parts of a matrix [outputs, inputs] in all tiles, [rows, columns, outputs, inputs].

    ``outputs`` are those of each column, ``inputs`` those of each row.
    """
    padded = np.pad(matrix, ((0, 1), (0, 1)))
    rows = padded[:, inputs].transpose(1, 0, 2)  # row, all outputs, inputs
    return np.ascontiguousarray(rows[:, outputs])
