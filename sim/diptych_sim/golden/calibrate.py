# SPDX-License-Identifier: BSD-2-Clause
"""Activations that set the static ranges of a quantized model."""

from __future__ import annotations

import numpy as np

from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_bytes
from diptych_sim.golden.evaluate import windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import quantize
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.load import LoadedModel, calibration_text

WINDOWS = 6
"""Calibration sequences."""
LENGTH = 256
"""Tokens of a sampled sequence; at most the context."""
PACKAGES = ("diptych_sim.golden", "diptych_sim.llm")
"""What a quantized model depends on, beside its numbers, its calibration and versions."""


def sample(
    reference: FloatReference, start: int, count: int, rng: np.random.Generator
) -> list[int]:
    """``start`` and ``count - 1`` tokens drawn from the model's own distribution."""
    tokens = [start]
    row = reference.logits(tokens)[-1]
    while len(tokens) < count:
        chances = np.exp(np.float64(row) - row.max())
        tokens.append(int(rng.choice(len(row), p=chances / chances.sum())))
        row = reference.extend(tokens[-1:])[-1]
    return tokens


def calibration_windows(loaded: LoadedModel, *, seed: int = 0) -> list[list[int]]:
    """Token sequences like those that the model was trained on.

    The bundled model brings text of its training corpus; any other model writes its own, drawn
    with ``seed``, so that no data set is needed.
    """
    config = loaded.model.config
    if loaded.is_builtin:
        return windows(loaded.tokenizer, calibration_text(), config.context, WINDOWS)
    reference = FloatReference(loaded.model, np.float32)
    rng = np.random.default_rng(seed)
    length = min(LENGTH, config.context)
    return [sample(reference, loaded.tokenizer.bos_id, length, rng) for _ in range(WINDOWS)]


def quantize_loaded(loaded: LoadedModel, *, seed: int = 0) -> QuantizedModel:
    """Calibrate and quantize a model that was read from its files.

    The result is cached, by the numbers of the model and its calibration.
    """
    if loaded.is_builtin:
        text = tuple(map(tuple, calibration_windows(loaded)))
    else:
        text = loaded.tokenizer.bos_id
    # Sums of floats depend on the instructions that NumPy finds.
    processor = np.show_config(mode="dicts")["SIMD Extensions"]
    values = (loaded.model, text, seed, repr(processor))
    key = fingerprint(*values, packages=PACKAGES)
    if key is None:
        return _quantize(loaded, seed)
    path = cache_root() / "models" / f"{key}.npz"
    return QuantizedModel.from_bytes(cached_bytes(path, lambda: _quantize(loaded, seed).to_bytes()))


def _quantize(loaded: LoadedModel, seed: int) -> QuantizedModel:
    reference = FloatReference(loaded.model)
    return quantize(loaded.model, reference.activations(calibration_windows(loaded, seed=seed)))
