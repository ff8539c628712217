# SPDX-License-Identifier: BSD-2-Clause
"""Cost of whole requests: on the array alone, on the mesh alone, and split between both.

All of it is from programs, by the cost models of both panels; what a token costs is linear in its
position between positions at which it is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf
from typing import NamedTuple

from diptych.config import MachineConfig
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hbm_layout import PrefillError
from diptych_sim.compiler.array_decode.compile import compile_array, compile_step
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.decode import decode_rounds
from diptych_sim.cost.prefill import PrefillCost, prefill_cost
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["WAYS", "RequestCosts", "Ways", "panel_cost"]

WAYS = ("array", "mesh", "split")
"""Ways to answer a request."""
_FRAME_BYTES = 20
"""Bytes that the link adds to the keys, and to the values, of a position in a layer."""
_STEP = 32
"""Positions between two at which a token's cost is computed."""


class Ways(NamedTuple):
    """Cycles of a request by way."""

    array: float
    mesh: float
    split: float

    @property
    def best(self) -> str:
        """The fastest way."""
        return min(WAYS, key=lambda way: getattr(self, way))


def panel_cost(program: PrefillProgram, machine: MachineConfig) -> PrefillCost:
    """Return the cost of a program on the prefill panel of a machine."""
    return prefill_cost(
        program,
        rows=machine.array[0],
        columns=machine.array[1],
        latency=machine.hbm_latency,
        bytes_per_cycle=machine.hbm_bytes_per_cycle,
        weight_rows=machine.weight_rows,
    )


class RequestCosts:
    """Costs of requests of one model on one machine.

    A batch has prompts and answers of one length each. Costs are in cycles, from the start to the
    last token of all; infinite where something does not fit. ``positions`` is the most that a request may have: the mesh is laid out for
    so many.
    """

    def __init__(self, model: QuantizedModel, machine: MachineConfig, positions: int) -> None:
        self.model, self.machine, self.positions = model, machine, positions
        self.prefill: Callable[[int, int], float] = cache(self._prefill)
        self.array_prefill: Callable[[int, int], float] = cache(self._array_prefill)
        self.array_step: Callable[[int, int], float] = cache(self._array_step)
        self._read_at = cache(self._mesh_read)
        self._write_at = cache(self._mesh_write)
        self._writing = cache(lambda batch: self._mesh(batch, 0))
        self._reading = cache(lambda batch: self._mesh(batch, positions))

    def request(self, prompt: int, tokens: int, batch: int, link_bytes: float) -> Ways:
        """Return the cycles of a batch of requests, each way."""
        last = prompt + tokens - 1
        first = self.prefill(prompt, batch)
        writing = self._sum(self._write_at, prompt, last, batch)
        reading = self._sum(self._read_at, 0, prompt - 1, batch) + self._write_at(prompt - 1, batch)
        return Ways(
            array=self.array_prefill(prompt, batch)
            + self._sum(self.array_step, prompt, last, batch),
            mesh=reading + writing,
            split=first + self.hand_off(prompt, batch, link_bytes) + writing,
        )

    def hand_off(self, prompt: int, batch: int, link_bytes: float) -> float:
        """Return the cycles that the link takes longer than prefill, layer by layer."""
        c = self.model.config
        layer = batch * prompt * (3 * c.kv_dim + 2 * _FRAME_BYTES) / link_bytes
        hidden = self.prefill(prompt, batch) * (c.layers - 1) / c.layers
        return max(layer, c.layers * layer - hidden) + 2 * self.machine.link_latency

    def _sum(self, at: Callable[[int, int], float], first: int, end: int, batch: int) -> float:
        """Return the cost of tokens at positions ``first`` to ``end - 1``."""
        total = 0.0
        for start in range(first, end, _STEP):
            count = min(_STEP, end - start)
            total += count * (at(start, batch) + at(start + count - 1, batch)) / 2
        return total

    # --- of a program --------------------------------------------------------------------------
    def _prefill(self, prompt: int, batch: int) -> float:
        """Return the cycles of prompts that are read together, in chunks if they do not fit."""
        prompts = [[0] * prompt] * batch
        return self._panel(lambda: compile_prefill(self.model, *self.machine.array, *prompts))

    def _array_prefill(self, prompt: int, batch: int) -> float:
        """Return the cycles of prompts whose keys and values go to HBM."""
        prompts, array = [[0] * prompt] * batch, self.machine.array
        cycles = self._panel(lambda: compile_array(self.model, *array, prompts, 1).prefill)
        if cycles == inf and batch > 1:
            halves = (batch // 2, batch - batch // 2)
            return sum(self.array_prefill(prompt, half) for half in halves)
        return cycles

    def _array_step(self, position: int, batch: int) -> float:
        array = self.machine.array
        return self._panel(
            lambda: compile_step(self.model, *array, sequences=batch, position=position)
        )

    def _panel(self, compiled: Callable[[], PrefillProgram]) -> float:
        """Return the cycles of a program; what does not fit takes forever."""
        try:
            return panel_cost(compiled(), self.machine).predicted_cycles
        except PrefillError:
            return inf

    def _mesh_write(self, position: int, batch: int) -> float:
        return self._round(self._writing(batch), position)

    def _mesh_read(self, position: int, batch: int) -> float:
        return self._round(self._reading(batch), position)

    @staticmethod
    def _round(program: DecodeProgram | None, position: int) -> float:
        return inf if program is None else decode_rounds(program, (position,))[0]

    def _mesh(self, batch: int, prompt: int) -> DecodeProgram | None:
        """Compile for prompts that the mesh reads, or for none; None if it does not fit."""
        prompts = [[0] * prompt] * batch if prompt else ()
        tokens = self.positions + 1 - prompt
        try:
            return compile_decode(
                self.model,
                *self.machine.mesh,
                prompt_tokens=[prompt] * batch,
                tokens=[tokens] * batch,
                sram_bytes=self.machine.sram_bytes,
                prompts=prompts,
            )
        except (MeshTooSmallError, UnsupportedModelError):
            return None
