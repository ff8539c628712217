# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model of random weights, for what depends on shapes alone: cycles and bytes."""

from __future__ import annotations

import numpy as np

from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.model import Layer, Model, ModelConfig, layer_shapes

__all__ = ["random_model"]

_CALIBRATION = 32
"""Tokens on which it is quantized."""


def random_model(config: ModelConfig, seed: int) -> QuantizedModel:
    """Quantize a model of random weights."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        return rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)

    model = Model(
        config=config,
        name=f"random {seed}",
        embedding=draw((config.vocab, config.dim)),
        layers=tuple(
            Layer(**{name: draw(shape) for name, shape in layer_shapes(config).items()})
            for _ in range(config.layers)
        ),
        final_norm=draw((config.dim,)),
    )
    tokens = rng.integers(0, config.vocab, min(_CALIBRATION, config.context)).tolist()
    return quantize(model, FloatReference(model, np.float64).activations([tokens]))
