# SPDX-License-Identifier: BSD-2-Clause
"""Codes that are the output's and the embedding's.

Mutations that were tried by hand, each seen to fail: a turn that is not undone; the gains instead of
their reciprocals; the output rounded as one of its own; an embedding taken whatever its error.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych_sim.golden import numbers
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.quantized import QuantizedModel, has_one_copy
from diptych_sim.golden.rewrite import embedding_of_output, rotate_residual
from diptych_sim.llm.load import LoadedModel, load_model
from diptych_sim.llm.model import Layer, Model, ModelConfig, layer_shapes

CONFIG = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=80, context=64)
TOKENS = np.random.default_rng(1).integers(0, CONFIG.vocab, (4, 40))


def model_with(gains):
    """Return a random model with these gains of its last norm."""
    rng = np.random.default_rng(1)

    def draw(shape):
        return rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)

    shapes = layer_shapes(CONFIG)
    return Model(
        config=CONFIG,
        name="random",
        embedding=draw((CONFIG.vocab, CONFIG.dim)),
        layers=tuple(Layer(**{n: draw(s) for n, s in shapes.items()}) for _ in range(2)),
        final_norm=gains.astype(np.float32),
    )


def quantized(gains):
    """Return such a model, turned, and how integers hold it."""
    turned = rotate_residual(model_with(gains))
    steps = FloatReference(turned, np.float64).activations(TOKENS.tolist())
    return turned, quantize(turned, steps, tie=embedding_of_output(gains))


def embedded(model):
    """Return the embeddings of all tokens, as real numbers."""
    return GoldenModel(model).embed(np.arange(model.config.vocab)) * model.residual_step


def error(found, wanted):
    return np.sqrt(np.sum((found - wanted) ** 2) / np.sum(wanted**2))


GAINS = np.random.default_rng(2).uniform(1.5, 2.5, CONFIG.dim)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_embedding_is_made_of_the_codes_of_the_output(sign):
    model, found = quantized(GAINS * np.where(np.arange(CONFIG.dim) == 3, sign, 1))
    assert found.tie is not None
    assert np.array_equal(found.embedding, found.output)
    ratio = numbers.combine(found.output_scale, found.tie_ratio)
    assert np.array_equal(found.embedding_scale, ratio)
    assert error(embedded(found), model.embedding) < 0.015
    reference = FloatReference(model, np.float64).logits(TOKENS[0])
    assert error(GoldenModel(found).real_logits(TOKENS[0]), reference) < 0.03
    again = QuantizedModel.from_bytes(found.to_bytes())
    assert np.array_equal(embedded(again), embedded(found))


def test_gains_that_are_too_unlike_make_two_copies():
    model, found = quantized(np.geomspace(0.01, 10, CONFIG.dim))
    assert found.tie is None
    assert error(embedded(found), model.embedding) < 0.015


def test_large_tied_models_have_one_copy(monkeypatch, tmp_path):
    large = replace(CONFIG, vocab=200_000, dim=64)
    assert has_one_copy(large)
    assert not has_one_copy(replace(large, tied=False))
    assert not has_one_copy(CONFIG)
    model = model_with(GAINS)
    loaded = LoadedModel(
        model=model,
        tokenizer=load_model("builtin").tokenizer,
        source=Path("small"),
    )
    for least, copies in ((10**9, 2), (1, 1)):
        monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / str(copies)))
        monkeypatch.setattr("diptych_sim.golden.quantized.ONE_COPY", least)
        found = quantize_loaded(loaded)
        assert (found.tie is None) == (copies == 2)
        assert error(embedded(found), rotate_residual(model).embedding) < 0.015
