# SPDX-License-Identifier: BSD-2-Clause
"""Quantized models of random integers, with scales that keep every number alive."""

import numpy as np

from diptych_sim.golden import numbers
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel
from diptych_sim.llm.model import ModelConfig

TINY = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
"""The smallest model with all that a model may have."""


def random_model(config: ModelConfig, seed: int) -> QuantizedModel:
    rng = np.random.default_rng(seed)
    c = config
    q_dim = c.heads * c.head_dim

    def weights(rows: int, columns: int):
        return rng.integers(-127, 128, (rows, columns)).astype(np.int8)

    def scales(count: int, value: float):
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
        )
        for index in range(c.layers)
    )
    angles = np.arange(c.context)[:, None] * 0.3 ** np.arange(c.head_dim // 2)
    return QuantizedModel(
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
