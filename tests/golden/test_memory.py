# SPDX-License-Identifier: BSD-2-Clause
"""Caches of a long context take memory where they are written, however many sequences there were.

Mutation that was tried by hand, and fails for each: caches made anew for each sequence, which the
allocator fills with zeros once it has memory of its own to give.
"""

import json
import resource

import numpy as np
import pytest

from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.quantize import quantize
from diptych_sim.llm.load import load_model
from support.tiny_models import TOKENS, write_tiny

CONTEXT = 2**18


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_tiny(tmp_path_factory.mktemp("long"), "llama")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (folder / "config.json").write_text(json.dumps(config))
    return load_model(str(folder)).model


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def grown(begin):
    """Return the bytes that the process has more after some sequences."""
    begin()
    before = resident()
    for _ in range(8):
        begin()
    return resident() - before


def test_the_float_reference(model):
    reference = FloatReference(model, np.float32)
    assert grown(lambda: reference.logits(TOKENS)) < 2**22


def test_the_golden_model(model):
    """Its caches are smaller, and what the allocator has by then decides: so by identity."""
    golden = GoldenModel(quantize(model, FloatReference(model).activations([TOKENS])))
    first = [(cache.keys, cache.values) for cache in golden.cache]
    expected = golden.logits(TOKENS)
    golden.reset()
    golden.logits(TOKENS[::-1])
    golden.reset()
    assert np.array_equal(golden.logits(TOKENS), expected)
    for cache, (keys, values) in zip(golden.cache, first, strict=True):
        assert cache.keys is keys
        assert cache.values is values
