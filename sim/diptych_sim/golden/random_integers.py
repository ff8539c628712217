# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model of random integers, with scales by which every number matters."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.machine import KvCache
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel
from diptych_sim.llm.model import ModelConfig

__all__ = ["random_cache", "random_integers"]

# Sizes are root mean squares of integers of 12 bits.
WEIGHT = 74
ACTIVATION = 900
EMBEDDING = 1500
NORMED = 590
"""Of a norm's output times weights, times its dynamic scale, ahead of a static one."""
QUERY = 3000
VALUE = 30
OCTAVES = 2
"""Of scores: by so many powers of two do powers of a softmax differ."""
CONTEXT = 350
ADDED = 700
"""Of what is added to the residual stream."""
GATE = 2.5
"""A real number."""
UP = 1500
HIDDEN = 300
GROWTH = 1.0, 1.6
"""How much a row's largest magnitude may grow; that of some rows grows more, and saturates."""
BY_OWN = 0.3
"""Share of norms that are by their own rows, beside the first."""
FLOOR = 0.5, 2.5
"""Floors of hidden magnitudes, in parts of what the largest one may be: some rows exceed them."""
FLOORED = 0.8
"""Share of layers that have one."""
HEAD_GAIN = 12_000.0
HEAD_EPSILON = 1000
"""Large enough that a norm of a head without it differs."""


def random_integers(
    config: ModelConfig, seed: int, *, one_copy: bool = False, steady: bool = False
) -> QuantizedModel:
    """Return a model without biases; nothing is quantized, which is fast.

    Every number is of a size at which a wrong one changes what comes behind it: powers of a softmax
    go through most of their range, gates through both tails of the sigmoid, what attention and the
    gated network add is half of what the residual stream has. With ``one_copy`` its embedding has the
    codes of its output; with ``steady`` all norms but the first take the magnitudes of those before, and no
    hidden element exceeds the floor.
    """
    rng = np.random.default_rng(seed)
    tops, floors = (np.random.default_rng([seed, n]) for n in (1, 2))
    c = config

    def top() -> int:
        by_own = not steady and tops.random() < BY_OWN
        return 0 if by_own else int(numbers.scale_word(2047 / tops.uniform(*GROWTH)))

    def floor(largest: float) -> int:
        share = floors.uniform(*FLOOR) if floors.random() < FLOORED else 0.0
        return int(min(largest * (8.0 if steady else share), 2**31 - 1))

    def weights(rows: int, columns: int) -> NDArray[np.int8]:
        return rng.integers(-127, 128, (rows, columns)).astype(np.int8)

    def scales(count: int, value: float) -> NDArray[np.int64]:
        return numbers.scale_word(value * rng.uniform(0.7, 1.4, count))

    def layer(index: int) -> QuantizedLayer:
        fraction = 9 + index % 3
        query = HEAD_GAIN / math.sqrt(c.head_dim) if c.qk_norm else QUERY
        score = query**2 * math.sqrt(c.head_dim) / 256  # of their high planes
        one = 2**fraction
        largest = 5 * GATE / 2 * one * UP
        return QuantizedLayer(
            wq=weights(c.q_dim, c.dim),
            wk=weights(c.kv_dim, c.dim),
            wv=weights(c.kv_dim, c.dim),
            wo=weights(c.dim, c.q_dim),
            w_gate=weights(c.hidden, c.dim),
            w_up=weights(c.hidden, c.dim),
            w_down=weights(c.dim, c.hidden),
            q_scale=scales(c.q_dim, QUERY / NORMED),
            k_scale=scales(c.kv_dim, QUERY / NORMED),
            v_scale=scales(c.kv_dim, VALUE / NORMED),
            o_scale=scales(c.dim, ADDED / (WEIGHT * CONTEXT * math.sqrt(c.q_dim))),
            gate_scale=scales(c.hidden, GATE * one / NORMED),
            up_scale=scales(c.hidden, UP / NORMED),
            down_scale=scales(
                c.dim, ADDED / (WEIGHT * HIDDEN * math.sqrt(c.hidden) * largest / 2**16)
            ),
            score_scale=int(numbers.scale_word(256 * OCTAVES / score)),
            context_scale=int(numbers.scale_word(2 * CONTEXT / VALUE)),
            gate_fraction=fraction,
            hidden_floor=floor(largest),
            mlp_norm_top=top(),
            next_norm_top=top(),
            q_norm=scales(c.head_dim, HEAD_GAIN) if c.qk_norm else None,
            k_norm=scales(c.head_dim, HEAD_GAIN) if c.qk_norm else None,
            q_epsilon=HEAD_EPSILON * (1 + index),
            k_epsilon=HEAD_EPSILON * (2 + index),
        )

    layers = tuple(layer(index) for index in range(c.layers))
    logit_bits = 32 - (c.vocab - 1).bit_length()
    # Of a large vocabulary logits have few bits, and few of them may saturate.
    room = 2 ** (logit_bits - 1) / (6 * WEIGHT * ACTIVATION * math.sqrt(c.dim))
    output_scale = min(3.0, room)
    angles = np.arange(c.context)[:, None] * 0.3 ** np.arange(c.head_dim // 2)
    model = QuantizedModel(
        config=c,
        name="random",
        embedding=weights(c.vocab, c.dim),
        embedding_scale=scales(c.vocab, EMBEDDING / WEIGHT),
        layers=layers,
        output=weights(c.vocab, c.dim),
        output_scale=scales(c.vocab, output_scale),
        logit_bits=logit_bits,
        rope=np.round(2**14 * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.int64),
        square_shift=6,
        epsilon=round(EMBEDDING / 4 * math.sqrt(c.dim)),
        residual_step=1.0,
        logit_step=1.0,
        largest_logit=2000.0,
    )
    if not one_copy:
        return model
    ratio = numbers.scale_word(EMBEDDING / WEIGHT / output_scale)
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
