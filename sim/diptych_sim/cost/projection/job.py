# SPDX-License-Identifier: BSD-2-Clause
"""What is to be projected, and what comes out for one phase."""

from __future__ import annotations

from dataclasses import dataclass

from diptych_sim.cost.models.shape import FORMATS, ModelShape, NumberFormat

__all__ = ["Job", "Phase", "ProjectionError"]


class ProjectionError(ValueError):
    """A projection cannot be made: one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Requests that run together: a model, a batch, tokens of each prompt and answer."""

    model: ModelShape
    dtype: str = "bf16"
    batch: int = 1
    prompt_tokens: int = 1024
    tokens: int = 256

    @property
    def form(self) -> NumberFormat:
        """The number format."""
        return FORMATS[self.dtype]

    @property
    def mean_position(self) -> float:
        """Positions that a token of the answer sees, in the mean."""
        return self.prompt_tokens + max(0, self.tokens - 1) / 2

    @property
    def resident_bytes(self) -> float:
        """Bytes of weights, and of KV cache at the end."""
        kv = self.model.kv_bytes(self.form, self.prompt_tokens + self.tokens)
        return self.model.weight_bytes(self.form) + self.batch * kv


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Time of a pass of all chips, in parts that add up, and what it moves and computes.

    ``bound`` names the largest part: ``bandwidth``, ``arithmetic`` or ``latency``, to which
    all-reduces, reductions on a wafer and scheduling belong.
    """

    bandwidth: float
    """Seconds of reading weights and KV cache."""
    arithmetic: float
    latency: float
    bytes: float
    """Bytes of weights and KV cache, all chips together."""
    flops: float
    cycles: float | None = None

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self.bandwidth + self.arithmetic + self.latency

    @property
    def bound(self) -> str:
        """Return the name of the largest part."""
        return max(("bandwidth", "arithmetic", "latency"), key=lambda name: getattr(self, name))
