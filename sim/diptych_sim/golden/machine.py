# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine in integers: what both panels must compute, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.numbers import Ints
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel


@dataclass
class KvCache:
    """Keys and values of one layer.

    ``keys`` is int16 [context, kv_heads, head_dim], rotated; ``values`` int8, same shape.
    """

    keys: NDArray[np.int16]
    values: NDArray[np.int8]


@dataclass(frozen=True)
class Normed:
    """Output of RMSNorm: int8 rows, and the scale word of each row."""

    values: Ints
    dynamic: Ints


def rms_norm(x: Ints, *, square_shift: int, epsilon: int) -> Normed:
    """RMSNorm of residual rows ``x`` [T, dim] without its gain.

    ``values = 127 x / max|x|`` rounded, and ``dynamic = max|x| / sqrt(sum of squares)``, so that
    ``x / rms = values * dynamic * constant``; the constant stands in the next matrix's scales.
    """
    largest = np.abs(x).max(-1)
    total = numbers.sum_of_squares(x, square_shift) + epsilon
    dynamic = numbers.combine(numbers.to_scale(largest), numbers.rsqrt(total))
    return Normed(to_int8(x, largest), dynamic)


STEPS = int(numbers.scale_word(127.0))
"""Scale word of 127, the largest int8 that is used."""


def to_int8(x: Ints, largest: Ints) -> Ints:
    """Rows scaled so that ``largest`` becomes 127."""
    return numbers.requantize(x, STEPS, 8, numbers.reciprocal(largest)[..., None])


class GoldenModel:
    """Runs a quantized model, one sequence at a time, with a KV cache.

    Parameters
    ----------
    model : :class:`QuantizedModel`
        What to run.
    """

    def __init__(self, model: QuantizedModel) -> None:
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        c = self.model.config
        shape = (c.context, c.kv_heads, c.head_dim)
        self.position = 0
        self.cache = [
            KvCache(np.zeros(shape, np.int16), np.zeros(shape, np.int8)) for _ in range(c.layers)
        ]

    # --- one layer -----------------------------------------------------------------------------
    def _rotate(self, heads: Ints, start: int) -> Ints:
        """RoPE of [T, heads, head_dim] at positions from ``start``."""
        table = self.model.rope[start : start + heads.shape[0]]
        out = np.empty_like(heads)
        out[..., 0::2], out[..., 1::2] = numbers.rotate(
            heads[..., 0::2], heads[..., 1::2], table[:, None, :, 0], table[:, None, :, 1]
        )
        return out

    def _attend(self, layer: QuantizedLayer, cache: KvCache, q: Ints, start: int) -> Ints:
        """Causal attention of rotated queries [T, heads, head_dim] -> int8 [T, heads * head_dim].

        The score drops the product of the two low planes: ``256 qh kh + qh kl + ql kh``.
        """
        c = self.model.config
        count = q.shape[0]
        end = start + count
        group = c.heads // c.kv_heads
        out = np.empty(q.shape, np.int64)
        causal = np.arange(end)[None] <= np.arange(start, end)[:, None]
        for head in range(c.heads):
            qh, ql = numbers.planes(q[:, head])
            kh, kl = numbers.planes(cache.keys[:end, head // group])
            scores = 256 * (qh @ kh.T) + qh @ kl.T + ql @ kh.T
            top = np.where(causal, scores, -(2**31)).max(-1, keepdims=True)
            p = numbers.exponential(np.where(causal, top - scores, 0), layer.score_scale)
            p = np.where(causal, p, 0)
            sums = p @ cache.values[:end, head // group].astype(np.int64)
            inverse = numbers.reciprocal(p.sum(-1))[:, None]
            out[:, head] = numbers.requantize(sums, layer.context_scale, 8, inverse)
        return out.reshape(count, -1)

    def _norm(self, x: Ints) -> Normed:
        return rms_norm(x, square_shift=self.model.square_shift, epsilon=self.model.epsilon)

    def layer(self, index: int, x: Ints) -> Ints:
        """Run layer ``index`` on residual rows ``x`` [T, dim] at the current position."""
        c = self.model.config
        w = self.model.layers[index]
        cache = self.cache[index]
        count = x.shape[0]
        span = slice(self.position, self.position + count)

        n = self._norm(x)
        dynamic = n.dynamic[:, None]
        q = numbers.requantize(n.values @ _wide(w.wq).T, w.q_scale, 16, dynamic)
        k = numbers.requantize(n.values @ _wide(w.wk).T, w.k_scale, 16, dynamic)
        v = numbers.requantize(n.values @ _wide(w.wv).T, w.v_scale, 8, dynamic)
        q = self._rotate(q.reshape(count, c.heads, c.head_dim), self.position)
        k = self._rotate(k.reshape(count, c.kv_heads, c.head_dim), self.position)
        cache.keys[span] = k
        cache.values[span] = v.reshape(count, c.kv_heads, c.head_dim)
        context = self._attend(w, cache, q, self.position)
        x = numbers.add_residual(x, context @ _wide(w.wo).T, w.o_scale)

        n = self._norm(x)
        dynamic = n.dynamic[:, None]
        g = numbers.requantize(n.values @ _wide(w.w_gate).T, w.gate_scale, 16, dynamic)
        u = numbers.requantize(n.values @ _wide(w.w_up).T, w.up_scale, 16, dynamic)
        hidden = numbers.gate(g, u, w.hidden_scale)
        largest = np.abs(hidden).max(-1)
        h = to_int8(hidden, largest)
        dynamic = numbers.to_scale(largest)[:, None]
        return numbers.add_residual(x, h @ _wide(w.w_down).T, w.down_scale, dynamic)

    # --- whole model ---------------------------------------------------------------------------
    def hidden_states(self, tokens: ArrayLike) -> Normed:
        """Append ``tokens`` [T] to the sequence; return the final norm's output."""
        m = self.model
        ids = np.asarray(tokens, dtype=np.int64)
        x = numbers.requantize(_wide(m.embedding)[ids], m.embedding_scale[ids, None], 16)
        for index in range(m.config.layers):
            x = self.layer(index, x)
        self.position += len(ids)
        return self._norm(x)

    def logits(self, tokens: ArrayLike) -> Ints:
        """Integer logits [T, vocab] of each appended token; comparable within a row only."""
        return self._logits(self.hidden_states(tokens).values)

    def _logits(self, values: Ints) -> Ints:
        m = self.model
        return numbers.requantize(values @ _wide(m.output).T, m.output_scale, m.logit_bits)

    def real_logits(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Logits as real numbers, for perplexity."""
        n = self.hidden_states(tokens)
        return self._logits(n.values) * self.model.logit_step * numbers.real_of(n.dynamic)[:, None]

    def step(self, tokens: ArrayLike) -> tuple[int, Ints]:
        """Append ``tokens``; return the arg-max token and the final norm's output [dim].

        Of equal logits the one of the lowest token counts.
        """
        values = self.hidden_states(tokens).values[-1:]
        return int(np.argmax(self._logits(values)[0])), values[0]

    def next_token(self, tokens: ArrayLike) -> int:
        """Append ``tokens``; return the arg-max token, as of :meth:`step`."""
        return self.step(tokens)[0]

    def generate(self, prompt: ArrayLike, count: int) -> Iterator[int]:
        """Greedy tokens after ``prompt``."""
        token = self.next_token(prompt)
        yield token
        for _ in range(count - 1):
            token = self.next_token([token])
            yield token


def _wide(matrix: NDArray[np.int8]) -> Ints:
    return matrix.astype(np.int64)
