# SPDX-License-Identifier: BSD-2-Clause
"""Activations that set the static ranges of a quantized model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_bytes
from diptych_sim.golden.evaluate import windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import WeightError, quantize
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import LoadedModel, calibration_text

Progress = Callable[[str], None]
"""Is told, in a few words, what is being done, and after a comma how far."""
WINDOWS = 6
"""Calibration sequences."""
LENGTH = 256
"""Tokens of a sampled sequence; at most the context."""
PACKAGES = ("diptych_sim.golden", "diptych_sim.llm")
"""Packages that a quantized model depends on, beside its numbers, calibration and versions."""


def sample(
    reference: FloatReference, start: int, count: int, rng: np.random.Generator
) -> list[int]:
    """``start`` and ``count - 1`` tokens drawn from the model's own distribution.

    Fewer if its logits are no numbers from there on.
    """
    tokens = [start]
    row = reference.logits(tokens)[-1]
    while len(tokens) < count and np.isfinite(row).all():
        chances = np.exp(np.float64(row) - row.max())
        tokens.append(int(rng.choice(len(row), p=chances / chances.sum())))
        row = reference.extend(tokens[-1:])[-1]
    return tokens


def calibration_windows(
    loaded: LoadedModel, *, seed: int = 0, progress: Progress | None = None
) -> list[list[int]]:
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
    found: list[list[int]] = []
    for number in range(WINDOWS):
        if progress is not None:
            progress(f"calibrating the model, {number} of {WINDOWS} texts")
        found.append(sample(reference, loaded.tokenizer.bos_id, length, rng))
    return found


def quantize_loaded(
    loaded: LoadedModel, *, seed: int = 0, progress: Progress | None = None
) -> QuantizedModel:
    """Calibrate and quantize a model that was read from its files.

    The result is cached, by the numbers of the model and its calibration. ``progress`` is told
    each step, unless it was.

    Raises
    ------
    ModelFileError
        If integers cannot hold a weight.
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
        return _quantize(loaded, seed, progress)
    path = cache_root() / "models" / f"{key}.npz"
    return QuantizedModel.from_bytes(
        cached_bytes(path, lambda: _quantize(loaded, seed, progress).to_bytes())
    )


def _quantize(loaded: LoadedModel, seed: int, progress: Progress | None) -> QuantizedModel:
    reference = FloatReference(loaded.model)
    with np.errstate(all="ignore"):  # what overflows is found and named
        texts = calibration_windows(loaded, seed=seed, progress=progress)
        try:
            return quantize(loaded.model, reference.activations(texts), progress)
        except WeightError as error:
            weight = loaded.weight(error.layer, error.name)
            raise ModelFileError(f"{weight} {error}") from None
