# SPDX-License-Identifier: BSD-2-Clause
"""Random models and prompts, on which predicted costs are compared with measured ones."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.model import Layer, Model, ModelConfig, layer_shapes

__all__ = ["Case", "random_case", "random_model"]

_CONTEXT = 128
_CALIBRATION = 32
"""Tokens on which a random model is quantized."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request of a random model: ``batch`` prompts of ``prompt`` tokens, ``tokens`` after each."""

    config: ModelConfig
    prompt: int
    tokens: int
    batch: int

    @property
    def words(self) -> str:
        """The case in one line."""
        c = self.config
        return (
            f"dim {c.dim}, hidden {c.hidden}, {c.layers} layers, {c.heads} heads of {c.head_dim}, "
            f"{c.kv_heads} KV heads, vocabulary {c.vocab}; {self.batch} x {self.prompt} tokens, "
            f"{self.tokens} after"
        )


def random_case(rng: random.Random) -> Case:
    """Draw a shape and a request."""
    head_dim = rng.choice((8, 16, 32))
    kv_heads = rng.choice((1, 2, 4))
    heads = kv_heads * rng.choice((1, 2, 4))
    return Case(
        config=ModelConfig(
            dim=rng.randrange(24, 161, 8),
            hidden=rng.randrange(32, 301),
            layers=rng.randint(1, 4),
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_dim,
            vocab=rng.randrange(64, 601),
            context=_CONTEXT,
        ),
        prompt=rng.choice((rng.randint(1, 12), rng.randint(1, 48))),
        tokens=rng.randint(2, 4),
        batch=rng.choice((1, 1, 2, 3)),
    )


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
    tokens = rng.integers(0, config.vocab, _CALIBRATION).tolist()
    return quantize(model, FloatReference(model, np.float64).activations([tokens]))
