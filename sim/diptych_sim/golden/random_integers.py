# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model of random integers, with scales that keep every number alive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.machine import KvCache
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel
from diptych_sim.llm.model import ModelConfig

__all__ = ["random_cache", "random_integers"]

HEAD_EPSILON = 1000
"""Large enough that a norm of a head without it differs."""


def random_integers(config: ModelConfig, seed: int, *, one_copy: bool = False) -> QuantizedModel:
    """Return a model without biases; nothing is quantized, which is fast.

    With ``one_copy`` its embedding has the codes of its output.
    """
    rng = np.random.default_rng(seed)
    c = config
    q_dim = c.heads * c.head_dim

    def weights(rows: int, columns: int) -> NDArray[np.int8]:
        return rng.integers(-127, 128, (rows, columns)).astype(np.int8)

    def scales(count: int, value: float) -> NDArray[np.int64]:
        return numbers.scale_word(value * rng.uniform(0.7, 1.4, count))

    spread = 1 / np.sqrt(c.dim / 32)
    layers = tuple(
        QuantizedLayer(
            wq=weights(q_dim, c.dim),
            wk=weights(c.kv_dim, c.dim),
            wv=weights(c.kv_dim, c.dim),
            wo=weights(c.dim, q_dim),
            w_gate=weights(c.hidden, c.dim),
            w_up=weights(c.hidden, c.dim),
            w_down=weights(c.dim, c.hidden),
            q_scale=scales(q_dim, 0.2 * spread),
            k_scale=scales(c.kv_dim, 0.2 * spread),
            v_scale=scales(c.kv_dim, 0.005 * spread),
            o_scale=scales(c.dim, 0.05),
            gate_scale=scales(c.hidden, 0.2 * spread),
            up_scale=scales(c.hidden, 0.2 * spread),
            down_scale=scales(c.dim, 2e-5),
            score_scale=int(numbers.scale_word(5e-5)),
            context_scale=int(numbers.scale_word(1.0)),
            gate_fraction=9 + index % 3,
            q_norm=scales(c.head_dim, 4000.0) if c.qk_norm else None,
            k_norm=scales(c.head_dim, 4000.0) if c.qk_norm else None,
            q_epsilon=HEAD_EPSILON * (1 + index),
            k_epsilon=HEAD_EPSILON * (2 + index),
        )
        for index in range(c.layers)
    )
    angles = np.arange(c.context)[:, None] * 0.3 ** np.arange(c.head_dim // 2)
    model = QuantizedModel(
        config=c,
        name="random",
        embedding=weights(c.vocab, c.dim),
        embedding_scale=scales(c.vocab, 20.0),
        layers=layers,
        output=weights(c.vocab, c.dim),
        output_scale=scales(c.vocab, 3.0),
        logit_bits=32 - (c.vocab - 1).bit_length(),
        rope=np.round(2**14 * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.int64),
        square_shift=6,
        epsilon=10,
        residual_step=1.0,
        logit_step=1.0,
        largest_logit=2000.0,
    )
    if not one_copy:
        return model
    ratio = numbers.scale_word(6.7)
    return replace(
        model,
        embedding=model.output,
        embedding_scale=numbers.combine(model.output_scale, ratio),
        tie=weights(c.dim, c.dim),
        tie_scale=scales(c.dim, 0.01 / np.sqrt(c.dim)),
        tie_ratio=int(ratio),
    )


def random_cache(config: ModelConfig, positions: int, seed: int) -> list[KvCache]:
    """Return a KV cache of each layer whose first ``positions`` are random."""
    rng = np.random.default_rng(seed)
    shape = (config.context, config.kv_heads, config.head_dim)
    caches = []
    for _ in range(config.layers):
        cache = KvCache(np.zeros(shape, np.int16), np.zeros(shape, np.int8))
        some = (positions, *shape[1:])
        cache.keys[:positions] = rng.integers(-(2**12), 2**12, some)
        cache.values[:positions] = rng.integers(-127, 128, some)
        caches.append(cache)
    return caches
