# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model without integers, for what depends on its shape alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych_sim.golden.machine import top_word
from diptych_sim.golden.quantized import (
    DEFAULT_ACTIVATION_BITS,
    QuantizedLayer,
    QuantizedModel,
)
from diptych_sim.llm.model import ModelConfig

__all__ = ["without_weights"]

_MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
_SCALES = (
    *("q_scale", "k_scale", "v_scale", "o_scale"),
    *("gate_scale", "up_scale", "down_scale"),
)


def without_weights(config: ModelConfig) -> QuantizedModel:
    """Return a model of a shape whose arrays are empty.

    Its norms take the magnitudes of those before, as most do in models of many layers, and hidden
    elements have floors.
    """
    nothing = np.zeros(0, np.int64)
    empty = np.zeros(0, np.int8)
    arrays: dict[str, Any] = dict.fromkeys(_MATRICES, empty) | dict.fromkeys(_SCALES, nothing)
    layer = QuantizedLayer(
        **arrays,
        score_scale=0,
        context_scale=0,
        mlp_norm_top=top_word(DEFAULT_ACTIVATION_BITS),
        next_norm_top=top_word(DEFAULT_ACTIVATION_BITS),
        hidden_floor=1,
    )
    return QuantizedModel(
        config=config,
        name="without weights",
        embedding=empty,
        embedding_scale=nothing,
        layers=(layer,) * config.layers,
        output=empty,
        output_scale=nothing,
        logit_bits=32 - (config.vocab - 1).bit_length(),
        rope=nothing,
        square_shift=6,
        epsilon=1,
        residual_step=1.0,
        logit_step=1.0,
        largest_logit=1.0,
    )
