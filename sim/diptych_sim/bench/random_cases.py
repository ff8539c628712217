# SPDX-License-Identifier: BSD-2-Clause
"""Random shapes and requests, on which predicted costs are compared with measured ones."""

from __future__ import annotations

import random
from dataclasses import dataclass

from diptych_sim.llm.model import ModelConfig

__all__ = ["Case", "random_case"]

_CONTEXT = 128


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
            hidden=rng.randrange(32, 201),
            layers=rng.randint(1, 3),
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_dim,
            vocab=rng.randrange(64, 601),
            context=_CONTEXT,
        ),
        prompt=rng.choice((rng.randint(1, 12), rng.randint(1, 40))),
        tokens=rng.randint(2, 4),
        batch=rng.choice((1, 1, 2, 3)),
    )
