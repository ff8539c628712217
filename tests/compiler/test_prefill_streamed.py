# SPDX-License-Identifier: BSD-2-Clause
"""Prefill where layers do not fit the scratchpad, or rows the accumulators, in the NumPy model.

Mutations that were tried by hand, each seen to fail: the scales of the other layer; a part of the
output that is numbered from 0; a row's scale of hidden elements with each part of the row; what is
left of the embedding beside its codes without the scale of the token, or left out.
"""

import numpy as np
import pytest

from diptych.systolic.isa import Queue, Target
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.llm.model import ModelConfig
from support.prefill_panel_model import PanelModel
from support.random_model import TINY, random_model

LARGE = ModelConfig(dim=288, hidden=768, layers=3, heads=9, kv_heads=3, vocab=3001, context=64)
"""Two layers take more than the scratchpad has."""


SMALL = ModelConfig(dim=64, hidden=172, layers=3, heads=8, kv_heads=4, vocab=512, context=256)


@pytest.mark.parametrize(
    ("config", "array", "lengths"),
    [
        *((LARGE, array, [7]) for array in ((32, 32), (16, 16), (8, 16))),
        (LARGE, (32, 32), [40]),
        (LARGE, (16, 16), [3, 5]),
        # Rows of hidden elements come in parts.
        (SMALL, (16, 16), [200]),
        # Whole layers.
        (TINY, (8, 16), [5]),
    ],
)
@pytest.mark.parametrize("one_copy", [False, True])
def test_tokens_and_caches_are_golden(config, array, lengths, one_copy):
    model = random_model(config, 1, one_copy=one_copy)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, config.vocab, n).tolist() for n in lengths]
    program = compile_prefill(model, *array, *prompts)
    panel = PanelModel(program, *array)
    expected = {}
    for number, prompt in enumerate(prompts):
        golden = GoldenModel(model)
        expected[2, 0, number, len(prompt) - 1] = [golden.next_token(prompt)]
        for layer, position in np.ndindex(config.layers, len(prompt)):
            cache = golden.cache[layer]
            planes = np.concatenate(numbers.planes(cache.keys[position].reshape(-1)))
            expected[0, layer, number, position] = planes.tolist()
            expected[1, layer, number, position] = cache.values[position].reshape(-1).tolist()
    found = {}
    for kind, layer, prompt, position, words in panel.handoff:
        values = words if kind == 2 else np.array(words, "<u4").view(np.int8).tolist()
        found[kind, layer, prompt, position] = values
    assert found == expected


def test_each_weight_is_loaded_once_for_a_short_prompt():
    program = compile_prefill(random_model(LARGE, 1), 32, 32, [1] * 40)
    loaded = 0
    for command in program.commands.commands:
        f = command.fields
        if command.queue is Queue.LOAD and command.op in (
            Target.SCRATCHPAD.value,
            Target.PARAMETERS.value,
        ):
            loaded += f["bytes"] * f["rows"]
    assert loaded <= program.weight_bytes <= 1.01 * loaded
