# SPDX-License-Identifier: BSD-2-Clause
"""What the tiles' memories hold of a model: all tiles at once, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.decode.layer import gate_word
from diptych_sim.compiler.decode.placement import CONSTANTS, WORD_BYTES, Placement, State, round_up
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
    whole = np.zeros((place.rows, place.columns, round_up(place.tile_bytes)), dtype=np.uint8)
    for kind in place.kinds:
        _Images(model, kind, whole[:, kind.span.start : kind.span.stop]).fill(turns, prompts)
    return whole.view("<u4")


def loaded_spans(model: QuantizedModel, place: Placement) -> list[tuple[int, int]]:
    """Return the addresses that are loaded in a kind of column.

    These are neither KV caches nor buffers, but for epsilons, and zeros behind a single sequence's powers.
    """
    first = min(place.at(name) for name in _LOADED if name in place.fixed)
    spans = [(first, place.layers_base)]
    for n in range(place.sequences):
        end = place.at("x", n) + 4 * place.chunk
        spans.append((end, end + 4))
    if place.heads and place.sequences == 1:
        powers = place.fixed["powers"]
        spans.append((powers.address, powers.address + powers.size))
    for layer in range(model.config.layers):
        base = layer * place.layer_bytes
        begin = base + place.layers_base
        end = base + place.at("keys") if place.heads else begin + place.layer_bytes
        spans.append((begin, end))
    return spans


_LOADED = ("prompts", "rope_table", "embedding", "tie")
"""Regions that may be the first one that is loaded."""


class _Images:
    """Images of a kind of column, and which elements of the model each row and column has.

    A number of -1 is none.
    """

    def __init__(self, model: QuantizedModel, place: Placement, image: NDArray[np.uint8]) -> None:
        c, p = model.config, place
        self.model, self.place, self.image = model, place, image
        columns = len(p.span)
        self.residual = _dealt(c.dim, p.rows, p.chunk)
        self.hidden = _dealt(c.hidden, columns, p.hidden, p.first_hidden)
        self.vocabulary = _dealt(c.vocab, columns, p.vocabulary, p.first_token)
        if p.heads:
            self._deal_heads()

    def _deal_heads(self) -> None:
        c, p = self.model.config, self.place
        # Columns ``unit * split`` on share heads; each has a slice of them.
        unit, slice_ = np.divmod(np.arange(len(p.span)), p.split)
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
    ) -> None:
        """Write everything."""
        m, p = self.model, self.place
        epsilons = np.zeros((p.rows, 1, 1), dtype=np.int64)
        epsilons[p.rows // 2] = m.epsilon  # where sums of columns end, so that no row waits for it
        for n in range(p.sequences):
            self._words(p.at("x", n) + 4 * p.chunk, epsilons)
        for n, prompt in enumerate(prompts if p.forced else ()):
            self._words(p.at("prompts") + 4 * p.forced * n, np.array(prompt[1:], dtype=np.int64))
        if p.heads:
            self._rope()
        self._vocabulary()
        for n in range(p.sequences if p.in_memory else 0):
            states = np.zeros((p.rows, 1, len(State)), dtype=np.int64)
            for row, each in enumerate(turns):
                states[row, 0, [State.COUNT, State.TURN]] = each[n]
            self._words(p.at("state", n), states)
        for number, layer in enumerate(m.layers):
            base = number * p.layer_bytes
            if p.heads:
                self._attention(layer, base)
            self._gated(layer, base)

    def _vocabulary(self) -> None:
        m, p = self.model, self.place
        if m.tie is not None and m.tie_scale is not None:
            columns = _dealt(m.config.dim, p.columns, p.tied)[p.span.start : p.span.stop]
            self._bytes(p.at("tie"), _part(m.tie, columns, self.residual))
            self._words(p.at("tie_scale"), _some(m.tie_scale, columns))
            # Of the column's elements, with zeros around, those of the row begin here.
            begin = np.array(p.span) * p.tied - p.chunk
            first = np.clip(np.arange(p.rows)[:, None] * p.chunk - begin, 0, p.chunk + p.tied)
            self._words(p.at("tied_place"), WORD_BYTES * first[:, :, None])
        for name, matrix, scale in (
            ("embedding", m.embedding, m.embedding_scale),
            ("output", m.output, m.output_scale),
        ):
            if name in p.fixed:
                self._bytes(p.at(name), _part(matrix, self.vocabulary, self.residual))
            if f"{name}_scale" in p.fixed:
                self._words(p.at(f"{name}_scale"), _some(scale, self.vocabulary))

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
        rows = p.positions.row(np.arange(len(m.rope)))
        for row in range(p.rows):
            factors = m.rope[rows == row][: p.slots]  # position, pair, cosine and sine
            parts = factors.astype("<i2")[:, self.factors].transpose(1, 0, 2, 3)
            data = np.ascontiguousarray(parts).reshape(len(p.span), -1).view(np.uint8)
            self.image[row, :, at : at + data.shape[1]] = data

    def _attention(self, w: QuantizedLayer, base: int) -> None:
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
        if w.q_norm is not None:
            # Of the columns that share a head, the first has the epsilon of its norm.
            epsilons = np.outer(self.slices == 0, [w.q_epsilon, w.k_epsilon])
            self._words(at("constants") + 4 * CONSTANTS.index("q_epsilon"), epsilons)

    def _gated(self, w: QuantizedLayer, base: int) -> None:
        """What all columns have of a layer."""
        p = self.place

        def at(name: str) -> int:
            return base + p.at(name)

        pair = np.stack([_part(m, self.hidden, self.residual) for m in (w.w_gate, w.w_up)], axis=3)
        self._bytes(at("w_gate_up"), pair)
        scales = [_some(scale, self.hidden) for scale in (w.gate_scale, w.up_scale)]
        self._words(at("gate_up_scale"), np.stack(scales, axis=2).reshape(len(p.span), -1))
        down = _part(w.w_down.T, self.hidden, self.residual).swapaxes(2, 3)
        self._bytes(at("w_down"), np.pad(down, [(0, 0)] * 3 + [(0, p.hidden_bytes - p.hidden)]))
        for name, scale in (("o_scale", w.o_scale), ("down_scale", w.down_scale)):
            self._words(at(name), _some(scale, self.residual)[:, None])
        gate = gate_word(self.model, w)
        tops = (w.mlp_norm_top, w.next_norm_top)
        words = int(w.score_scale), int(w.context_scale), gate, *tops, w.hidden_floor
        self._words(at("constants"), np.array(words, dtype=np.int64))

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


def _dealt(elements: int, parts: int, each: int, first: int = 0) -> Index:
    """Return which elements each part has, from ``first`` on: ``each``, the last ones fewer."""
    index = first + np.arange(parts * each).reshape(parts, each)
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
