# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model without integers, for what depends on its shape alone."""

from __future__ import annotations

import numpy as np

from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.model import ModelConfig

__all__ = ["without_weights"]


def without_weights(config: ModelConfig) -> QuantizedModel:
    """Return a model of a shape whose arrays are empty."""
    nothing = np.zeros(0, np.int64)
    return QuantizedModel(
        config=config,
        name="without weights",
        embedding=np.zeros(0, np.int8),
        embedding_scale=nothing,
        layers=(),
        output=np.zeros(0, np.int8),
        output_scale=nothing,
        logit_bits=32 - (config.vocab - 1).bit_length(),
        rope=nothing,
        square_shift=6,
        epsilon=1,
        residual_step=1.0,
        logit_step=1.0,
        largest_logit=1.0,
    )
