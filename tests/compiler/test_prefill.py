# SPDX-License-Identifier: BSD-2-Clause
"""Prefill programs: what they read from HBM, and that they stay inside the panel's memories."""

import re

import numpy as np
import pytest

from diptych.systolic.isa import Queue, Target
from diptych_sim.compiler.array_decode.compile import compile_serial
from diptych_sim.compiler.prefill.compile import PrefillError, compile_prefill
from diptych_sim.llm.model import ModelConfig
from support.panel_limits import check_limits
from support.random_model import random_model

SMALL = ModelConfig(dim=64, hidden=172, layers=5, heads=8, kv_heads=4, vocab=512, context=512)
"""The shape of the bundled model and of stories260K."""
MODEL = random_model(SMALL, 1)
WITH_IDS = (Target.GATHER, Target.GATHER_DYNAMIC, Target.PICK_DYNAMIC)


def hbm_bytes(program):
    """HBM bytes that a program reads: beats of 64 bytes of its loads, and of the program."""
    total = -(-4 * len(program.commands.words()) // 64) * 64
    for command in program.commands.commands:
        if command.queue is not Queue.LOAD:
            continue
        beats = -(-command.fields["bytes"] // 64) * command.fields["rows"]
        if command.op == Target.PICK_DYNAMIC.value:
            beats = 0
        total += 64 * (beats + (Target(command.op) in WITH_IDS))
    return total


@pytest.mark.parametrize("count", [1, 5, 17, 64, 200, 408, 511])
def test_reads_little_more_than_the_weights(count):
    program = compile_prefill(MODEL, 16, 16, np.arange(count).tolist())
    assert program.weight_bytes <= hbm_bytes(program) <= 1.2 * program.weight_bytes


@pytest.mark.parametrize("array", [(4, 4), (8, 16), (16, 8), (16, 16), (32, 32)])
@pytest.mark.parametrize("count", [1, 16, 33, 150])
def test_stays_inside_the_memories(array, count):
    check_limits(compile_prefill(MODEL, *array, np.arange(count).tolist()), array)


def test_each_weight_is_loaded_once():
    program = compile_prefill(MODEL, 16, 16, [1, 2, 3])
    loads = [
        (c.fields["hbm"], c.fields["bytes"])
        for c in program.commands.commands
        if c.queue is Queue.LOAD and c.op == Target.SCRATCHPAD.value
    ]
    loads.sort()
    ends = [start + size for start, size in loads]
    assert all(end <= start for end, (start, _) in zip(ends, loads[1:], strict=False))


def test_a_prompt_that_is_too_long_as_a_whole_is_refused():
    message = "Prompt must have at most 512 tokens in this panel, not 513"
    with pytest.raises(PrefillError, match=f"^{re.escape(message)}$"):
        compile_serial(MODEL, 16, 16, [1] * 513)


def test_heads_that_do_not_fit_the_array_are_refused():
    model = random_model(
        ModelConfig(dim=24, hidden=40, layers=1, heads=4, kv_heads=2, vocab=50, context=64), 1
    )
    message = "Head dimension 6 must divide the array's rows or be a multiple of them, not 4"
    with pytest.raises(PrefillError, match=f"^{re.escape(message)}$"):
        compile_prefill(model, 4, 4, [1])
