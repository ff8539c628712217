# SPDX-License-Identifier: BSD-2-Clause
"""Cycles of prompts of a shape on the prefill panel, by the cost model, for any number of layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.config import MachineConfig
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.layer import layer_macs
from diptych_sim.cost.requests import panel_cost
from diptych_sim.golden.quantized import has_one_copy
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig

__all__ = ["PromptCost", "prompt_cost", "prompt_macs"]

_FEW, _MORE = 3, 5
"""Layers of programs that are compared; both odd, as the places of layers alternate."""


@dataclass(frozen=True)
class PromptCost:
    """What the cost model says of a prompt.

    Attributes
    ----------
    cycles : int
        Those of the whole model.
    layer_cycles : float
        Those of one layer more.
    """

    cycles: int
    layer_cycles: float


def prompt_cost(config: ModelConfig, machine: MachineConfig, tokens: int) -> PromptCost:
    """Return the cost of a prompt: of programs of few layers, and of what each further one adds.

    Raises
    ------
    PrefillError
        If the panel cannot read the prompt.
    """

    def cost(layers: int) -> int:
        some = replace(config, layers=layers, context=max(2, tokens))
        model = random_integers(some, 1, one_copy=has_one_copy(config))
        program = compile_prefill(model, *machine.array, [0] * tokens)
        return panel_cost(program, machine).predicted_cycles

    few, more = cost(_FEW), cost(_MORE)
    layer = (more - few) / (_MORE - _FEW)
    if config.layers < _MORE:
        return PromptCost(cost(config.layers), layer)
    return PromptCost(round(more + (config.layers - _MORE) * layer), layer)


def prompt_macs(config: ModelConfig, tokens: int) -> int:
    """Return the products that a layer needs for a prompt: those of each token, as of a mesh."""
    return sum(layer_macs(config, position) for position in range(tokens))
