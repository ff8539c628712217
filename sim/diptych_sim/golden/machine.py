# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine in integers: what both panels must compute, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.noise import key_of, noise
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
    """Output of RMSNorm: rows of activations, and the scale word of each row."""

    values: Ints
    dynamic: Ints


def rms_norm(
    x: Ints, largest: Ints, top: int, *, bits: int, square_shift: int, epsilon: int
) -> Normed:
    """RMSNorm of rows ``x`` of up to 32 bits, [..., dim], without its gain.

    Rows are scaled before they are squared, so that the sum has few bits however large they are:
    ``values = top x / largest`` rounded and saturated to ``bits``, and
    ``dynamic = 1 / sqrt(sum(v**2 >> square_shift))``. ``largest`` [...] is the largest magnitude of
    each row, with :func:`top_word` as the scale word ``top``; or that of the row before something
    was added, with a word less by how much it may have grown. ``epsilon`` is one more element of
    each row, of which ``largest`` knows nothing: it is scaled as the others are, and saturates at
    32767.
    """
    inverse = numbers.reciprocal(largest)
    values = numbers.requantize(x, top, bits, inverse[..., None])
    small = numbers.requantize(epsilon, top, 16, inverse)
    total = numbers.sum_of_squares(values, square_shift) + (small * small >> square_shift)
    return Normed(values, numbers.rsqrt(total))


HEAD_BITS = 12
"""Bits of a query or key while its head is normalized."""


def top_word(bits: int) -> int:
    """Return the scale word of the largest activation of ``bits``."""
    return int(numbers.scale_word(2 ** (bits - 1) - 1))


def top_power(bits: int) -> int:
    """Return the largest power of attention: it needs no sign, but with 12 bits has room for one."""
    return 255 if bits == 8 else 2 ** (bits - 1) - 1


def to_activation(x: Ints, largest: Ints, bits: int) -> Ints:
    """Rows scaled so that ``largest`` becomes the largest activation of ``bits``."""
    return numbers.requantize(x, top_word(bits), bits, numbers.reciprocal(largest)[..., None])


_ROWS = 64
"""Rows of scores, and of logits, that are computed at a time."""


def product(values: Ints, matrix: NDArray[np.float64]) -> Ints:
    """``values @ matrix.T`` exactly: all sums are below 2**53, so float64 holds them.

    Operands of a machine have sums below 2**31 anyway.
    """
    return (values.astype(np.float64) @ matrix.T).astype(np.int64)


class GoldenModel:
    """Runs a quantized model, one sequence at a time, with a KV cache.

    Parameters
    ----------
    model : :class:`QuantizedModel`
        What to run.
    seed : int
        Seed of the tokens, if they are drawn.
    """

    def __init__(self, model: QuantizedModel, seed: int = 0) -> None:
        self.model = model
        self._seed = seed
        self._bits = model.activation_bits
        self._powers = top_power(self._bits)
        names = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
        self._weights = [
            {name: getattr(layer, name).astype(np.float64) for name in names}
            for layer in model.layers
        ]
        self._output = model.output.astype(np.float64)
        self._tie = None if model.tie is None else model.tie.astype(np.float64)
        c = model.config
        shape = (c.context, c.kv_heads, c.head_dim)
        # Made once: zeros that the system gives take memory where they are written, others all of it.
        self.cache = [
            KvCache(np.zeros(shape, np.int16), np.zeros(shape, np.int8)) for _ in range(c.layers)
        ]
        self.wide = np.zeros((c.context, c.layers), bool)
        """Where a row's hidden elements exceed the floor of their magnitudes."""
        self.position = 0
        self._largest = np.zeros(0, np.int64)  # of each row, at its norm before
        self.norms = self.saturated = 0
        """Rows that norms were given, and those of them that had grown beyond their room."""
        self.hidden_rows = self.wide_rows = 0
        """Rows of hidden elements with a floor of their magnitudes, and those of them that exceeded it."""

    def reset(self) -> None:
        """Forget the sequence; what is in the cache is not read before it is written again."""
        self.position = 0

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
        """Causal attention of rotated queries [T, heads, head_dim] -> [T, heads * head_dim].

        The score drops the product of the two low planes: ``256 qh kh + qh kl + ql kh``.
        """
        count = q.shape[0]
        out = np.empty(q.shape, np.int64)
        for first in range(0, count, _ROWS):  # rows see no keys behind them
            part = q[first : first + _ROWS]
            self._attend_rows(layer, cache, part, start + first, out[first : first + _ROWS])
        return out.reshape(count, -1)

    def _attend_rows(
        self, layer: QuantizedLayer, cache: KvCache, q: Ints, start: int, out: Ints
    ) -> None:
        c = self.model.config
        end = start + q.shape[0]
        group = c.heads // c.kv_heads
        causal = np.arange(end)[None] <= np.arange(start, end)[:, None]
        for kv in range(c.kv_heads):  # its queries at once: [group, T, ...]
            mine = slice(kv * group, (kv + 1) * group)
            qh, ql = (part.astype(np.float64) for part in numbers.planes(q[:, mine].swapaxes(0, 1)))
            kh, kl = (part.astype(np.float64) for part in numbers.planes(cache.keys[:end, kv]))
            scores = ((256 * qh + ql) @ kh.T + qh @ kl.T).astype(np.int64)
            top = np.where(causal, scores, -(2**31)).max(-1, keepdims=True)
            distance = np.where(causal, top - scores, 0)
            p = numbers.exponential(distance, layer.score_scale, self._powers)
            p = np.where(causal, p, 0)
            sums = product(p, cache.values[:end, kv].T.astype(np.float64))
            inverse = numbers.reciprocal(p.sum(-1))[..., None]
            context = numbers.requantize(sums, layer.context_scale, self._bits, inverse)
            out[:, mine] = context.swapaxes(0, 1)

    def _norm(self, x: Ints, top: int) -> Normed:
        """RMSNorm by the rows' magnitudes at their norm before, or if ``top`` is 0 by their own."""
        m, own = self.model, np.abs(x).max(-1)
        largest, self._largest = self._largest if top else own, own
        word = top or top_word(self._bits)
        most = numbers.requantize(own, word, 32, numbers.reciprocal(largest))
        self.norms += own.size
        self.saturated += int((most >= 2 ** (self._bits - 1)).sum())
        shared = {"bits": self._bits, "square_shift": m.square_shift, "epsilon": m.epsilon}
        return rms_norm(x, largest, word, **shared)

    def _heads(self, x: Ints, gain: Ints | None, epsilon: int) -> Ints:
        """Split queries or keys [T, heads * head_dim] into heads; normalize each if there is a gain."""
        d = self.model.config.head_dim
        heads = x.reshape(len(x), -1, d)
        if gain is None:
            return heads
        largest, top = np.abs(heads).max(-1), top_word(HEAD_BITS)
        n = rms_norm(heads, largest, top, bits=HEAD_BITS, square_shift=0, epsilon=epsilon)
        return numbers.requantize(n.values, gain, 16, n.dynamic[..., None])

    def layer(self, index: int, x: Ints) -> Ints:
        """Run layer ``index`` on residual rows ``x`` [T, dim] at the current position."""
        m, c = self.model, self.model.config
        w, matrices = m.layers[index], self._weights[index]
        cache = self.cache[index]
        count = x.shape[0]
        span = slice(self.position, self.position + count)

        n = self._norm(x, m.layers[index - 1].next_norm_top if index else 0)
        dynamic = n.dynamic[:, None]

        def project(name: str, scale: Ints, bias: Ints | None, bits: int) -> Ints:
            sums = product(n.values, matrices[name])
            return numbers.add_residual(0 if bias is None else bias, sums, scale, dynamic, bits)

        q = self._heads(project("wq", w.q_scale, w.bq, 16), w.q_norm, w.q_epsilon)
        k = self._heads(project("wk", w.k_scale, w.bk, 16), w.k_norm, w.k_epsilon)
        v = project("wv", w.v_scale, w.bv, 8)
        cache.keys[span] = self._rotate(k, self.position)
        cache.values[span] = v.reshape(count, c.kv_heads, c.head_dim)
        context = self._attend(w, cache, self._rotate(q, self.position), self.position)
        bits = m.residual_bits
        x = numbers.add_residual(x, product(context, matrices["wo"]), w.o_scale, bits=bits)

        n = self._norm(x, w.mlp_norm_top)
        dynamic = n.dynamic[:, None]
        g = project("w_gate", w.gate_scale, None, 16)
        u = project("w_up", w.up_scale, None, 16)
        hidden = numbers.gate(g, u, w.gate_fraction)
        largest = np.abs(hidden).max(-1)
        self.wide[span, index] = largest > w.hidden_floor
        if w.hidden_floor:
            self.hidden_rows += count
            self.wide_rows += int(self.wide[span, index].sum())
        largest = np.maximum(largest, w.hidden_floor)
        h = to_activation(hidden, largest, self._bits)
        dynamic = numbers.to_scale(largest)[:, None]
        sums = product(h, matrices["w_down"])
        return numbers.add_residual(x, sums, w.down_scale, dynamic, bits)

    # --- whole model ---------------------------------------------------------------------------
    def hidden_states(self, tokens: ArrayLike) -> Normed:
        """Append ``tokens`` [T] to the sequence; return the final norm's output."""
        x = self.embed(np.asarray(tokens, dtype=np.int64))
        for index in range(self.model.config.layers):
            x = self.layer(index, x)
        self.position += len(x)
        return self._norm(x, self.model.layers[-1].next_norm_top)

    def embed(self, ids: Ints) -> Ints:
        """Return what tokens are in the residual stream, [T, dim]."""
        m = self.model
        rows, scales = m.embedding[ids].astype(np.int64), m.embedding_scale[ids, None]
        x = numbers.requantize(rows, scales, m.residual_bits)
        if self._tie is None or m.tie_scale is None:
            return x
        return numbers.add_residual(
            x, product(rows, self._tie), m.tie_scale, scales, m.residual_bits
        )

    def logits(self, tokens: ArrayLike) -> Ints:
        """Integer logits [T, vocab] of each appended token; comparable within a row only."""
        return self._logits(self.hidden_states(tokens).values)

    def _logits(self, values: Ints) -> Ints:
        m = self.model
        return numbers.requantize(product(values, self._output), m.output_scale, m.logit_bits)

    def real_logits(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Logits as real numbers, for perplexity."""
        n = self.hidden_states(tokens)
        steps = numbers.real_of(n.dynamic) * self.model.logit_step
        out = np.empty((len(steps), self.model.config.vocab))
        for start in range(0, len(out), _ROWS):  # of a vocabulary they take much memory
            part = slice(start, start + _ROWS)
            out[part] = self._logits(n.values[part]) * steps[part, None]
        return out

    def step(self, tokens: ArrayLike) -> tuple[int, Ints]:
        """Append ``tokens``; return the arg-max token and the final norm's output [dim].

        Of equal logits the one of the lowest token counts. If tokens are drawn
        (:meth:`.QuantizedModel.sampled`) noise of the token's position is added to them.
        """
        n = self.hidden_states(tokens)
        values = n.values[-1:]
        return int(np.argmax(self._scores(values, n.dynamic[-1:])[0])), values[0]

    def _scores(self, values: Ints, dynamic: Ints) -> Ints:
        """Logits of the last row, with noise if tokens are drawn."""
        m = self.model
        if m.noise_shift is None:
            return self._logits(values)
        key = key_of(self._seed, self.position)
        drawn = noise(key, np.arange(m.config.vocab), m.noise_shift)
        sums = product(values, self._output)
        return numbers.add_residual(
            drawn, sums, m.output_scale, dynamic[:, None], bits=m.logit_bits
        )

    def next_token(self, tokens: ArrayLike) -> int:
        """Append ``tokens``; return the arg-max token, as of :meth:`step`."""
        return self.step(tokens)[0]

    def generate(self, prompt: ArrayLike, count: int) -> Iterator[int]:
        """Tokens after ``prompt``."""
        token = self.next_token(prompt)
        yield token
        for _ in range(count - 1):
            token = self.next_token([token])
            yield token
