# SPDX-License-Identifier: BSD-2-Clause
"""A quantized model is kept between runs: the same numbers, and another for another model.

Mutations that were tried by hand, each seen to fail: arrays, or numbers that are none, left out of
what tells a model; its seed left out; layers read back in another order.
"""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from diptych_sim.golden.calibrate import ROTATION, calibration_windows, quantize_loaded
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.rewrite import rotate_residual
from diptych_sim.llm.load import LoadedModel, load_model
from diptych_sim.llm.model import Layer, Model, ModelConfig, layer_shapes


def numbers(model):
    parts = [(part, field.name) for part in (model, *model.layers) for field in fields(part)]
    values = [(name, getattr(part, name)) for part, name in parts if name != "layers"]
    return [
        (name, type(v), getattr(v, "dtype", None), np.asarray(v).tolist()) for name, v in values
    ]


@pytest.fixture
def loaded():
    config = ModelConfig(dim=8, hidden=12, layers=2, heads=2, kv_heads=1, vocab=6, context=9)
    rng = np.random.default_rng(1)

    def draw(shape):
        return rng.normal(size=shape).astype(np.float32)

    shapes = layer_shapes(config)
    model = Model(
        config=config,
        name="small",
        embedding=draw((config.vocab, config.dim)),
        layers=tuple(Layer(**{n: draw(s) for n, s in shapes.items()}) for _ in range(2)),
        final_norm=draw((config.dim,)),
    )
    return LoadedModel(model=model, tokenizer=load_model("builtin").tokenizer, source=Path("small"))


def test_a_model_is_quantized_once(monkeypatch, tmp_path, loaded):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    first = numbers(quantize_loaded(loaded))
    windows = calibration_windows(loaded)
    turned = rotate_residual(loaded.model, ROTATION)
    fresh = quantize(turned, FloatReference(turned).activations(windows))
    fresh = replace(fresh, rotation=ROTATION)
    assert numbers(fresh) == first
    (file,) = tmp_path.rglob("*.npz")
    made = file.stat().st_mtime_ns
    assert numbers(quantize_loaded(loaded)) == first
    assert file.stat().st_mtime_ns == made


@pytest.mark.parametrize("change", ["weight", "theta", "seed", "name"])
def test_another_model_is_another(monkeypatch, tmp_path, loaded, change):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    first = numbers(quantize_loaded(loaded))
    model, seed = loaded.model, 0
    if change == "weight":
        wq = model.layers[1].wq.copy()
        wq[0, 0] *= 64
        layers = (model.layers[0], replace(model.layers[1], wq=wq))
        model = replace(model, layers=layers)
    elif change == "theta":
        model = replace(model, config=replace(model.config, rope_theta=2.0))
    elif change == "name":
        model = replace(model, name="other")
    else:
        seed = 1
    assert numbers(quantize_loaded(replace(loaded, model=model), seed=seed)) != first
    assert len(list(tmp_path.rglob("*.npz"))) == 2
