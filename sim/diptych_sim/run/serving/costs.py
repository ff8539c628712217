# SPDX-License-Identifier: BSD-2-Clause
"""What prefill, a token and a hand-off cost a machine of a projected system."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from diptych_sim.cost.projection.job import Job
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.projection.project import (
    decode_pass,
    least_chips,
    memory_bytes,
    prefill_pass,
    prepared,
)
from diptych_sim.cost.systems.schema import System

__all__ = ["Costs"]


class Costs:
    """Costs of one machine, of ``chips`` chips.

    Parameters
    ----------
    system : System
        What it is.
    job : Job
        Model and number format; ``prompt_tokens`` and ``tokens`` are those usual ones between which
        the cost of a token is taken to be linear in the positions.
    chips : int, optional
        As few as hold the model and the usual batch, unless given.

    Raises
    ------
    ProjectionError
        If nobody publishes what it takes.
    """

    def __init__(
        self, system: System, job: Job, p: Parameters, chips: int | None, *, batch: int
    ) -> None:
        self.system = system
        self.job = prepared(system, job)
        self.chips = chips or least_chips(system, replace(self.job, batch=batch))
        self._p = p
        self._prefill: dict[int, float] = {}
        self._steps: dict[int, tuple[float, float]] = {}

    @cached_property
    def kv_capacity(self) -> float:
        """Bytes of KV cache beside the weights; below 0 if those do not fit."""
        weights = self.job.model.weight_bytes(self.job.form)
        return self.chips * memory_bytes(self.system) - weights

    def kv_bytes(self, positions: int) -> float:
        """Bytes of a sequence's KV cache."""
        return self.job.model.kv_bytes(self.job.form, positions)

    def prefill(self, prompt: int, cached: int = 0) -> float:
        """Seconds of a prompt of which ``cached`` tokens are there already."""
        if cached:
            rest = self.prefill(prompt) - self.prefill(cached)
            return max(rest, self.prefill(prompt - cached))
        if prompt not in self._prefill:
            job = replace(self.job, prompt_tokens=prompt, batch=1)
            self._prefill[prompt] = prefill_pass(self.system, job, self.chips, self._p).seconds
        return self._prefill[prompt]

    def step(self, batch: int, positions: float) -> tuple[float, float]:
        """Seconds of a token of each of ``batch`` sequences with ``positions`` positions together.

        The second value is what a step takes more than the one before it.
        """
        if batch not in self._steps:
            low = float(self.job.prompt_tokens)
            high = low + max(1, self.job.tokens)
            job = replace(self.job, batch=batch)
            at_low, at_high = (
                decode_pass(self.system, job, self.chips, self._p, at).seconds for at in (low, high)
            )
            slope = max(0.0, (at_high - at_low) / (high - low))
            self._steps[batch] = max(0.0, at_low - slope * low), slope
        fixed, slope = self._steps[batch]
        return fixed + slope * positions / batch, slope
