# SPDX-License-Identifier: BSD-2-Clause
"""Models of random integers, and the shape of a tiny one."""

from diptych_sim.golden.random_integers import random_integers as random_model
from diptych_sim.llm.model import ModelConfig

__all__ = ["TINY", "random_model"]

TINY = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
"""The smallest model with all that a model may have."""
