# SPDX-License-Identifier: BSD-2-Clause
"""The model in floating point: what the machine's integers approximate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.llm.model import Model, ModelConfig, layer_shapes

Reals = NDArray[Any]
"""float64 or float32, as the reference was asked for."""
Activations = dict[str, Reals]
"""Rows of activations by name, [samples, width]."""
Observer = Callable[[str, Reals], None]
"""Sees the name and the rows of an activation."""


@dataclass
class _Cache:
    """Rotated keys, and values, of one layer: [context, kv_heads, head_dim]."""

    keys: Reals
    values: Reals


def rope_angles(positions: ArrayLike, config: ModelConfig) -> NDArray[np.float64]:
    """Angle of every rotary pair at ``positions`` [T] -> [T, head_dim / 2], in radians."""
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    frequencies = config.rope_theta**-exponents / (config.rope_divisors or 1.0)
    return np.multiply.outer(np.asarray(positions, np.float64), frequencies)


class FloatReference:
    """Runs a model in floating point, one sequence at a time, with a KV cache.

    Parameters
    ----------
    model : Model
        The model.
    dtype : type
        In which everything is computed: float64, or float32.
    """

    def __init__(self, model: Model, dtype: type[np.float64 | np.float32] = np.float64) -> None:
        self.model = model
        self.config = model.config
        self.dtype = dtype
        names = tuple(layer_shapes(model.config))
        self._layers = [
            {name: getattr(layer, name).astype(self.dtype, copy=False) for name in names}
            for layer in model.layers
        ]
        self._embedding = model.embedding.astype(self.dtype, copy=False)
        self._output = model.output.astype(self.dtype, copy=False)
        self._final_norm = model.final_norm.astype(self.dtype, copy=False)
        c = self.config
        shape = (c.context, c.kv_heads, c.head_dim)
        # Made once: zeros that the system gives take memory where they are written, others all of it.
        self._caches = [
            _Cache(np.zeros(shape, self.dtype), np.zeros(shape, self.dtype))
            for _ in range(c.layers)
        ]
        self.position = 0

    def reset(self) -> None:
        """Forget the sequence; what is in the caches is not read before it is written again."""
        self.position = 0

    def logits(self, tokens: Sequence[int], observe: Observer | None = None) -> Reals:
        """Logits of a new sequence, [T, vocab]: row t is for the token that follows ``tokens[t]``.

        Raises
        ------
        ValueError
            If there is no token, one outside the vocabulary, or more than the context holds.
        """
        self.reset()
        return self.extend(tokens, observe)

    def extend(self, tokens: Sequence[int], observe: Observer | None = None) -> Reals:
        """Logits of ``tokens`` behind those of the sequence so far, [T, vocab].

        ``observe`` is called with the name and the rows of every activation: ``embedding``; for
        each layer ``i`` ``{i}.attention_normed`` (without the gain), ``{i}.q`` and ``{i}.k``
        (rotated, [T, heads, head_dim]; ``{i}.q_plain``, ``{i}.k_plain`` ahead of a norm), ``{i}.v``, ``{i}.context``, ``{i}.mlp_normed``,
        ``{i}.gate``, ``{i}.up``, ``{i}.hidden``; the residual stream as ``residual`` ahead of the
        layers and behind each, and as ``middle`` ahead of its gated network; ``final_normed``;
        ``logits``.

        Raises
        ------
        ValueError
            If there is no token, one outside the vocabulary, or more than the context holds.
        """
        c = self.config
        room = c.context - self.position
        if not 1 <= len(tokens) <= room:
            raise ValueError(f"Number of tokens must be in range(1, {room + 1}), not {len(tokens)}")
        for token in tokens:
            if not 0 <= token < c.vocab:
                raise ValueError(f"Token must be in range({c.vocab}), not {token!r}")
        see: Observer = observe or (lambda name, rows: None)

        turn = self._turn(len(tokens))
        x = self._embedding[np.asarray(tokens)]
        see("embedding", x)
        see("residual", x)
        for index in range(c.layers):
            x = self._layer(index, x, turn, see)
        self.position += len(tokens)
        return self._logits(x, see)

    def _turn(self, count: int) -> tuple[Reals, Reals]:
        """Cosines and sines of the next ``count`` positions."""
        angles = rope_angles(np.arange(self.position, self.position + count), self.config)
        return np.cos(angles).astype(self.dtype), np.sin(angles).astype(self.dtype)

    def _layer(self, index: int, x: Reals, turn: tuple[Reals, Reals], see: Observer) -> Reals:
        weights = self._layers[index]
        x = x + self._attention(x, index, weights, self._caches[index], turn, see)
        see("middle", x)
        x = x + self._gated(x, index, weights, see)
        see("residual", x)
        return x

    def _logits(self, x: Reals, see: Observer) -> Reals:
        normed = self._norm(x)
        see("final_normed", normed)
        out = (normed * self._final_norm) @ self._output.T
        see("logits", out)
        return out

    def _norm(self, x: Reals) -> Reals:
        epsilon = self.dtype(self.config.norm_eps)
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon)

    def _attention(
        self,
        x: Reals,
        index: int,
        weights: dict[str, Reals],
        cache: _Cache,
        turn: tuple[Reals, Reals],
        see: Observer,
    ) -> Reals:
        c = self.config
        rows = len(x)
        normed = self._norm(x)
        see(f"{index}.attention_normed", normed)
        gained = normed * weights["attention_norm"]
        q, k, v = (gained @ weights[name].T for name in ("wq", "wk", "wv"))
        if c.qkv_bias:
            q, k, v = q + weights["bq"], k + weights["bk"], v + weights["bv"]
        q = q.reshape(rows, c.heads, c.head_dim)
        k = k.reshape(rows, c.kv_heads, c.head_dim)
        v = v.reshape(rows, c.kv_heads, c.head_dim)
        if c.qk_norm:
            see(f"{index}.q_plain", q)
            see(f"{index}.k_plain", k)
            q, k = self._norm(q) * weights["q_norm"], self._norm(k) * weights["k_norm"]
        q, k = _rotate(q, *turn), _rotate(k, *turn)
        see(f"{index}.q", q)
        see(f"{index}.k", k)
        see(f"{index}.v", v)
        end = self.position + rows
        cache.keys[self.position : end] = k
        cache.values[self.position : end] = v

        # Query heads in groups that share a KV head: [kv_heads, share, rows, head_dim].
        queries = q.reshape(rows, c.kv_heads, -1, c.head_dim).transpose(1, 2, 0, 3)
        keys = cache.keys[:end].transpose(1, 2, 0)[:, None]
        values = cache.values[:end].transpose(1, 0, 2)[:, None]
        scores = queries @ keys / self.dtype(np.sqrt(c.head_dim))
        future = np.arange(end) > np.arange(self.position, end)[:, None]
        scores = np.where(future, -np.inf, scores)
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        context = (weight / weight.sum(-1, keepdims=True)) @ values
        context = context.transpose(2, 0, 1, 3).reshape(rows, c.q_dim).astype(self.dtype)
        see(f"{index}.context", context)
        return context @ weights["wo"].T

    def _gated(self, x: Reals, index: int, weights: dict[str, Reals], see: Observer) -> Reals:
        normed = self._norm(x)
        see(f"{index}.mlp_normed", normed)
        gained = normed * weights["mlp_norm"]
        gate = gained @ weights["w_gate"].T
        up = gained @ weights["w_up"].T
        # With tanh, since exp(-gate) overflows for gates far below zero.
        hidden = gate * (1 + np.tanh(gate / 2)) / 2 * up
        see(f"{index}.gate", gate)
        see(f"{index}.up", up)
        see(f"{index}.hidden", hidden)
        return hidden @ weights["w_down"].T

    def streams(self, tokens: Sequence[int]) -> list[Reals]:
        """Residual stream of a new sequence ahead of each layer, and behind the last, [T, dim]."""
        self.reset()
        turn = self._turn(len(tokens))
        streams = [self._embedding[np.asarray(tokens)]]
        for index in range(self.config.layers):
            streams.append(self._layer(index, streams[-1], turn, lambda name, rows: None))
        return streams

    def generate_greedy(
        self, tokens: Sequence[int], count: int, stop: frozenset[int] = frozenset()
    ) -> list[int]:
        """The ``count`` likeliest tokens behind ``tokens``, each chosen on its own.

        Of equal logits the lowest token wins. Ends early at the context's end, or at a token of
        ``stop``, which is left out.
        """
        written: list[int] = []
        rows = self.logits(tokens)
        while len(written) < count:
            token = int(np.argmax(rows[-1]))
            if token in stop:
                break
            written.append(token)
            if self.position == self.config.context:
                break
            rows = self.extend([token])
        return written

    def activations(self, windows: Sequence[Sequence[int]]) -> Iterator[Activations]:
        """Every activation that :meth:`extend` shows, over all ``windows``, [samples, width].

        First the embedding's, then those of each layer, then those behind the last one, of
        ``logits`` only the largest magnitude of each row. The sequence so far is forgotten.
        """
        seen: dict[str, list[Reals]] = {}

        def observe(name: str, rows: Reals) -> None:
            if name == "logits":
                rows = np.abs(rows).max(-1, keepdims=True)
            seen.setdefault(name, []).append(rows.reshape(len(rows), -1))

        def taken() -> Activations:
            found = {name: np.concatenate(rows) for name, rows in seen.items()}
            seen.clear()
            return found

        self.reset()
        streams = [self._embedding[np.asarray(window)] for window in windows]
        turns = [self._turn(len(window)) for window in windows]
        for x in streams:
            observe("embedding", x)
            observe("residual", x)
        yield taken()
        for index in range(self.config.layers):
            streams = [
                self._layer(index, x, turn, observe) for x, turn in zip(streams, turns, strict=True)
            ]
            yield taken()
        for x in streams:
            self._logits(x, observe)
        yield taken()


def _rotate(x: Reals, cosine: Reals, sine: Reals) -> Reals:
    """Turn the pairs (2i, 2i + 1) of ``x`` [T, heads, head_dim]; angles [T, head_dim / 2]."""
    cosine, sine = cosine[:, None], sine[:, None]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cosine - x[..., 1::2] * sine
    out[..., 1::2] = x[..., 0::2] * sine + x[..., 1::2] * cosine
    return out
