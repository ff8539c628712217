# SPDX-License-Identifier: BSD-2-Clause
"""Decode on the array, command by command: tokens, and keys and values in HBM.

Faults that were planted, each seen to fail: RoPE's factors of the next position; caches that are
loaded without their last row; keys and values stored a row too early.
"""

import dataclasses
import re

import numpy as np
import pytest

from diptych.systolic.isa import Queue, StoreOp
from diptych_sim.compiler.array_decode.compile import compile_array, compile_serial, compile_step
from diptych_sim.compiler.prefill.compile import PrefillError, compile_prefill
from diptych_sim.golden.machine import GoldenModel
from support.golden_handoff import expected_handoff
from support.prefill_panel_model import PanelModel
from support.random_model import TINY, random_model

MODEL = random_model(TINY, 1)


def prompts(count, length):
    rng = np.random.default_rng(length)
    return [rng.integers(0, TINY.vocab, length).tolist() for _ in range(count)]


def tokens_of(panel, sequences):
    """Return the last token of each sequence that a panel handed off."""
    return [piece[4][0] for piece in panel.handoff[-sequences:]]


@pytest.mark.parametrize("array", [(4, 4), (8, 16), (16, 8), (16, 16), (32, 32)])
@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 20), (3, 7)])
def test_tokens_and_kv_rows_are_those_of_the_golden_model(array, count, length):
    texts, tokens = prompts(count, length), 4
    program = compile_array(MODEL, array[0], array[1], texts, tokens)
    whole = dataclasses.replace(program.prefill, hbm=program.hbm)
    panel = PanelModel(whole, *array)
    goldens = [GoldenModel(MODEL) for _ in texts]
    expected = [list(g.generate(text, tokens)) for g, text in zip(goldens, texts, strict=True)]
    found = [tokens_of(panel, count)]
    for step, at in zip(program.steps, program.ids, strict=True):
        panel.hbm[at : at + 4 * count] = np.array(found[-1], "<u4").view(np.uint8)
        panel.run(step)
        found.append(tokens_of(panel, count))
    assert [list(sequence) for sequence in zip(*found, strict=True)] == expected
    caches = [golden.cache for golden in goldens]
    rows = list(program.kv.expected(caches, [length + tokens - 1] * count))
    assert len(rows) == 3 * TINY.layers * count * (length + tokens - 1)
    for at, want in rows:
        assert np.array_equal(panel.hbm[at : at + len(want)], want)


def test_the_embedding_may_have_the_codes_of_the_output():
    model = random_model(TINY, 1, one_copy=True)
    texts, tokens = prompts(2, 9), 3
    program = compile_array(model, 8, 8, texts, tokens)
    panel = PanelModel(dataclasses.replace(program.prefill, hbm=program.hbm), 8, 8)
    expected = [list(GoldenModel(model).generate(text, tokens)) for text in texts]
    found = [tokens_of(panel, 2)]
    for step, at in zip(program.steps, program.ids, strict=True):
        panel.hbm[at : at + 8] = np.array(found[-1], "<u4").view(np.uint8)
        panel.run(step)
        found.append(tokens_of(panel, 2))
    assert [list(sequence) for sequence in zip(*found, strict=True)] == expected


@pytest.mark.parametrize("count", [1, 3])
def test_a_serial_hand_off_hands_off_the_same(count):
    texts = prompts(count, 9)
    panel = PanelModel(compile_serial(MODEL, 16, 16, *texts), 16, 16)
    assert panel.handoff == expected_handoff(MODEL, *texts)


def test_a_serial_hand_off_begins_when_all_keys_are_there():
    def last_store(program):
        stores = [c for c in program.commands.commands if c.queue is Queue.STORE]
        return [StoreOp(c.op) for c in stores]

    serial = last_store(compile_serial(MODEL, 16, 16, [1, 2, 3]))
    first = serial.index(StoreOp.KEYS)
    assert set(serial[:first]) == {StoreOp.HBM}
    assert len(serial[:first]) == TINY.layers
    assert StoreOp.HBM not in last_store(compile_prefill(MODEL, 16, 16, [1, 2, 3]))


def test_a_step_reads_weights_and_earlier_positions_once():
    one, other = (
        compile_step(MODEL, 16, 16, sequences=1, position=at).weight_bytes for at in (10, 11)
    )
    assert other - one == TINY.layers * 3 * TINY.kv_dim


def test_prompts_of_a_batch_have_one_length():
    message = "Prompts of a batch must have one length on the array, not [2, 3]"
    with pytest.raises(PrefillError, match=f"^{re.escape(message)}$"):
        compile_array(MODEL, 16, 16, [[1, 2], [1, 2, 3]], 2)
