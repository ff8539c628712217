# SPDX-License-Identifier: BSD-2-Clause
"""Sizes beyond which nothing is made for a model, whatever its files say."""

from __future__ import annotations

from diptych_sim.llm.model import ModelConfig

__all__ = ["check_size"]

LONGEST = 2**20
"""Context at most: tables are made for every position."""
_MOST = 2**24
"""No other size is larger."""


def check_size(config: ModelConfig) -> None:
    """Refuse a model whose tables alone would exhaust memory.

    Raises
    ------
    ValueError
        If a size is beyond what any model has.
    """
    if config.context > LONGEST:
        raise ValueError(f"Context length must be at most {LONGEST}, not {config.context!r}")
    for words, value in (
        ("Model width", config.dim),
        ("Hidden width", config.hidden),
        ("Number of layers", config.layers),
        ("Number of heads", config.heads),
        ("Head width", config.head_dim),
        ("Vocabulary size", config.vocab),
    ):
        if value > _MOST:
            raise ValueError(f"{words} must be at most {_MOST}, not {value!r}")
