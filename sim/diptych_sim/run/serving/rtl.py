# SPDX-License-Identifier: BSD-2-Clause
"""A timeline of requests on our array, in RTL, and what the same machine costs by its programs.

One machine takes requests in the order of their arrival, and one at a time: it reads a prompt and
writes its whole answer before it takes the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diptych.config import MachineConfig
from diptych_sim.compiler.array.hbm_layout import HbmImage
from diptych_sim.compiler.array_decode.compile import compile_array
from diptych_sim.cost.requests import RequestCosts
from diptych_sim.engine.build import Progress
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.host.jobs import ArrayRequestJob, ArrayRequestResult
from diptych_sim.run.panel import run_panel
from diptych_sim.run.serving.machines import Fleet, serve
from diptych_sim.run.serving.requests import Request

__all__ = ["Answered", "ArrayCosts", "Arrival", "array_timeline", "served_timeline"]

_LIMIT = 2_000_000
_AHEAD = 32
"""Positions over which a token's cost is taken to grow evenly."""


@dataclass(frozen=True)
class Arrival:
    """A request: the cycle in which it arrives, its prompt, and the tokens that it asks for."""

    cycle: int
    prompt: Sequence[int]
    tokens: int


@dataclass(frozen=True)
class Answered:
    """Cycles of a request's first and last token, and whether all equal the golden model's."""

    first: int
    last: int
    matches_golden: bool


class ArrayCosts:
    """Costs of the array as a machine of :class:`.Fleet`, in cycles, one request at a time.

    What :class:`.Costs` has of a projected system, from programs.
    """

    kv_capacity = math.inf

    def __init__(self, costs: RequestCosts) -> None:
        self._costs = costs

    def kv_bytes(self, positions: int) -> float:
        """Bytes of a sequence's KV cache."""
        c = self._costs.model.config
        return 3.0 * c.layers * c.kv_dim * positions

    def prefill(self, prompt: int, cached: int = 0) -> float:
        """Cycles of a prompt."""
        return self._costs.array_prefill(prompt, 1)

    def step(self, batch: int, positions: float) -> tuple[float, float]:
        """Cycles of a token that is the last of ``positions``, and what the next one takes more."""
        at = int(positions) - 1
        far = min(at + _AHEAD, self._costs.model.config.context - 1)
        now, then = (self._costs.array_step(position, 1) for position in (at, far))
        return now, (then - now) / max(1, far - at)


def served_timeline(
    model: QuantizedModel, arrivals: Sequence[Arrival], machine: MachineConfig
) -> list[tuple[float, float]]:
    """Return the cycles of each request's first and last token as :func:`.serve` has them."""
    costs: Any = ArrayCosts(RequestCosts(model, machine, model.config.context))
    requests = [Request(arrival=a.cycle, prompt=len(a.prompt), tokens=a.tokens) for a in arrivals]
    served = serve(requests, Fleet(prefill=costs, prefill_machines=1)).requests
    return [(request.first, request.finished) for request in served]


def array_timeline(
    model: QuantizedModel,
    arrivals: Sequence[Arrival],
    machine: MachineConfig,
    progress: Progress | None = None,
) -> list[Answered]:
    """Answer requests on one array in RTL; cycles count from the start of the first.

    Raises
    ------
    PrefillError
        If the panel cannot run a request.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    image = HbmImage()
    programs: list[int] = []
    ids: list[int | None] = []
    begins: list[int] = []
    for arrival in arrivals:
        compiled = compile_array(
            model, *machine.array, [arrival.prompt], arrival.tokens, behind=image
        )
        parts = [compiled.prefill, *compiled.steps]
        programs += [part.start for part in parts]
        ids += [None, *compiled.ids]
        begins += [arrival.cycle] * len(parts)
    job = ArrayRequestJob(
        hbm="hbm.bin",
        written="written.bin",
        programs=programs,
        ids=ids,
        arrivals=begins,
        sequences=[1] * len(programs),
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=_LIMIT,
    )
    measured: ArrayRequestResult = run_panel(job, image.data, machine, progress=progress).result
    start, at, found = measured.starts[0], 0, []
    for arrival in arrivals:
        own = slice(at, at + arrival.tokens)
        at += arrival.tokens
        tokens = [row[0] for row in measured.tokens[own]]
        cycles = [row[0] - start for row in measured.token_cycles[own]]
        expected = list(GoldenModel(model).generate(arrival.prompt, arrival.tokens))
        found.append(Answered(cycles[0], cycles[-1], tokens == expected))
    return found
