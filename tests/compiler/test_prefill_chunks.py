# SPDX-License-Identifier: BSD-2-Clause
"""Prompts that are read in chunks, in the NumPy model of the panel; limits of the panel's memories."""

import dataclasses
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.systolic.isa import Queue, StoreOp, VectorOp
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.array.hbm_layout import model_image
from diptych_sim.compiler.prefill.chunk_memories import ways_to_cache
from diptych_sim.compiler.prefill.chunks import ChunkPlan, plan_chunks
from diptych_sim.compiler.prefill.compile import PrefillError, compile_prefill
from diptych_sim.compiler.prefill.prompts import Prompts
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.llm.model import ModelConfig
from support.golden_handoff import expected_in_chunks
from support.panel_limits import check_limits
from support.planned_chunks import planned
from support.prefill_panel_model import PanelModel
from support.random_model import TINY, random_model

WIDE = ModelConfig(
    dim=64, hidden=72, layers=2, heads=6, kv_heads=3, vocab=70, context=200, head_width=64
)
"""Heads that can be cached one at a time."""
LARGE = ModelConfig(dim=288, hidden=768, layers=3, heads=9, kv_heads=3, vocab=1501, context=300)
"""Layers that are streamed."""
NORMED = dataclasses.replace(TINY, qk_norm=True)
SMALL = ModelConfig(dim=64, hidden=172, layers=2, heads=8, kv_heads=4, vocab=512, context=600)
"""The shape of the bundled model and of stories260K."""
MODELS = {
    name: random_model(config, 1)
    for name, config in (("tiny", TINY), ("wide", WIDE), ("large", LARGE), ("normed", NORMED))
}
MODELS["one copy"] = random_model(TINY, 2, one_copy=True)


def drawn(model, *counts, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, model.config.vocab, count).tolist() for count in counts]


def check(model, array, compiler, prompts):
    size = {chunk.count for chunk in compiler.chunks if not chunk.final} or {10**6}
    assert len(size) == 1
    program = compiler.run()
    assert PanelModel(program, *array).handoff == expected_in_chunks(
        model, *prompts, size=size.pop()
    )
    return program


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


ARRAYS = [(4, 4), (8, 8), (16, 16), (8, 16), (16, 8), (32, 32)]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        *product(["tiny", "normed", "one copy"], ARRAYS),
        ("wide", (16, 16)),
        *(slow(*each) for each in product(["wide"], ARRAYS[3:])),
        *(slow("large", array) for array in ((16, 16), (32, 32))),
    ],
)
def test_hands_off_what_the_golden_model_computes(name, array):
    model = MODELS[name]
    plan = ChunkPlan(16, model.config.kv_heads, 1)
    prompts = drawn(model, 16 * 3 + 5)
    check(model, array, planned(model, array, plan, prompts), prompts)


@pytest.mark.parametrize("array", [(8, 16), (32, 32)])
@pytest.mark.parametrize(("heads", "places"), [(3, 1), (1, 1), (1, 2)])
def test_some_heads_at_a_time(heads, places, array):
    model = MODELS["wide"]
    assert (heads, places) in ways_to_cache(WIDE, max(array))
    prompts = drawn(model, 40, 9)
    check(model, array, planned(model, array, ChunkPlan(16, heads, places), prompts), prompts)


@settings(deadline=None, max_examples=6)
@given(
    st.sampled_from(["tiny", "wide", "one copy", "normed"]),
    st.sampled_from([(8, 8), (8, 16), (16, 8), (32, 32)]),
    st.integers(2, 5),
    st.lists(st.integers(1, 64), min_size=1, max_size=2),
    st.integers(0, 1000),
)
def test_prompts_and_chunks_of_any_length(name, array, eights, counts, seed):
    model = MODELS[name]
    prompts = drawn(model, *counts, seed=seed)
    for heads, places in ways_to_cache(model.config, max(array)):
        compiler = planned(model, array, ChunkPlan(8 * eights, heads, places), prompts)
        for n, prompt in enumerate(prompts):
            chunks = [chunk for chunk in compiler.chunks if chunk.number == n]
            assert [token for chunk in chunks for token in chunk.tokens[0]] == prompt
            assert all(chunk.count <= 8 * eights for chunk in chunks)
        expected = {piece[:4]: piece[4] for piece in expected_in_chunks(model, *prompts, size=64)}
        found = PanelModel(compiler.run(), *array).handoff
        assert len(found) == len(expected)
        assert {piece[:4]: piece[4] for piece in found} == expected


def test_first_tokens_are_drawn():
    model = dataclasses.replace(MODELS["tiny"], logit_step=1 / 500, largest_logit=4.0)
    model = model.sampled(1.0)
    prompts, seeds = drawn(model, 20, 9), [5, 6]
    found = PanelModel(compile_prefill(model, 8, 8, *prompts, seeds=seeds, chunk=8), 8, 8).handoff
    tokens = [piece[4][0] for piece in found if piece[0] == 2]
    golden = [
        GoldenModel(model, seed).next_token(prompt)
        for seed, prompt in zip(seeds, prompts, strict=True)
    ]
    assert tokens == golden
    assert golden != [GoldenModel(model, 7).next_token(prompt) for prompt in prompts]


def test_a_prompt_that_has_no_room_is_read_in_chunks():
    model = random_model(SMALL, 1)
    (prompt,) = drawn(model, 513)
    program = compile_prefill(model, 16, 16, prompt)
    expected = {piece[:4]: piece[4] for piece in expected_in_chunks(model, prompt, size=600)}
    found = PanelModel(program, 16, 16).handoff
    assert {piece[:4]: piece[4] for piece in found} == expected
    stored = [c for c in program.commands.commands if c.op == StoreOp.HBM.value]
    assert any(c.queue is Queue.STORE for c in stored)


@pytest.mark.parametrize(("array", "count"), [((4, 4), 150), ((16, 16), 500), ((32, 32), 290)])
@pytest.mark.parametrize("name", ["wide", "large"])
def test_stays_inside_the_memories(name, array, count):
    model = MODELS[name]
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, context=512))
    model = random_model(model.config, 1)
    program = compile_prefill(model, *array, *drawn(model, count), chunk=64)
    check_limits(program, array)
    for command in program.commands.commands:
        if command.queue is Queue.VECTOR and command.op == VectorOp.EXPONENTIAL.value:
            f = command.fields
            assert f["target_row"] >= (f["extent"] >> 16) * f["target_n"]


def test_only_the_final_chunk_attends_in_the_last_layer():
    model = MODELS["tiny"]
    compiler = planned(model, (4, 4), ChunkPlan(8, 2, 1), drawn(model, 24))
    labels = [c.label for c in compiler.run().commands.commands if c.queue is Queue.MATRIX]
    scores = [label.layer for label in labels if label.operation == "scores"]
    heads = TINY.heads
    blocks = 2  # of 4 rows each
    assert scores.count(0) == 3 * blocks * heads
    assert scores.count(1) == heads


def test_chunks_are_as_large_as_there_is_room():
    # SmolLM2-135M: vectors of the residual stream, of hidden elements and of RoPE's factors.
    config = ModelConfig(
        dim=576, hidden=1536, layers=1, heads=9, kv_heads=3, vocab=64, context=3000
    )
    model = random_model(config, 1)
    image, _ = model_image(model, array=(32, 32))
    entries = panel_sizes(32, 32).vectors
    rows = entries // (576 // 32 + 1536 // 32 + 2)
    found = {
        count: plan_chunks(model, (32, 32), Prompts([[0] * count]), image)
        for count in (61, 512, 1024, 2048)
    }
    assert [plan.rows for plan in found.values()] == [rows] * 4
    assert [plan.heads for plan in found.values()] == [3, 3, 1, 1]


@pytest.mark.slow
def test_scores_of_many_positions_take_both_halves():
    config = dataclasses.replace(TINY, layers=2, context=800)
    model = random_model(config, 1)
    prompts = drawn(model, 512)
    compiler = planned(model, (64, 64), ChunkPlan(64, 2, 1), prompts)
    halves = compiler.memories.half
    program = check(model, (64, 64), compiler, prompts)
    check_limits(program, (64, 64))
    scores = [
        (f["rows"] & 0xFFFF) * (f["tiles"] >> 16)
        for f in (c.fields for c in program.commands.commands if c.label.operation == "scores")
        if "tiles" in f
    ]
    assert halves < max(scores) <= 2 * halves


def test_a_prompt_of_too_many_positions_is_refused():
    config = dataclasses.replace(SMALL, layers=1, context=40_000)
    model = random_model(config, 1)
    message = (
        "Prompt of 40000 tokens, in chunks of 2, needs 5393664 scratchpad bytes of the prefill panel, "
        "which has 1048576"
    )
    with pytest.raises(PrefillError, match=f"^{re.escape(message)}$"):
        compile_prefill(model, 16, 16, [1] * 40_000)
