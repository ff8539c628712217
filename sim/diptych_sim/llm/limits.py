# SPDX-License-Identifier: BSD-2-Clause
"""Sizes beyond which nothing is made for a model, whatever its files say."""

from __future__ import annotations

from diptych_sim.llm.model import ModelConfig

__all__ = ["check_size"]

LONGEST = 2**20
"""Context at most: tables are made for every position."""
_DEEPEST, _RICHEST = 2**12, 2**20
"""Layers, and tokens, at most: of each there is a list."""
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
    for words, value, most in (
        ("Model width", config.dim, _MOST),
        ("Hidden width", config.hidden, _MOST),
        ("Number of layers", config.layers, _DEEPEST),
        ("Number of heads", config.heads, _MOST),
        ("Head width", config.head_dim, _MOST),
        ("Vocabulary size", config.vocab, _RICHEST),
    ):
        if value > most:
            raise ValueError(f"{words} must be at most {most}, not {value!r}")
