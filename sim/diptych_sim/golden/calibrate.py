# SPDX-License-Identifier: BSD-2-Clause
"""Activations that set the static ranges of a quantized model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_bytes
from diptych_sim.golden.evaluate import windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import Progress, WeightError, quantize
from diptych_sim.golden.quantized import (
    DEFAULT_ACTIVATION_BITS,
    RESIDUAL_BITS,
    QuantizedModel,
    has_one_copy,
)
from diptych_sim.golden.rewrite import embedding_of_output, rotate_residual
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.texts import LARGE, calibration_text
from diptych_sim.llm.tokenizer import TextError

WINDOWS = 6
"""Calibration sequences."""
TEXT_WINDOWS = 8
"""The same, of a text."""
ROTATION = 0
"""Seed of the rotation of the residual stream."""
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
    loaded: LoadedModel,
    *,
    seed: int = 0,
    text: str | None = None,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Token sequences like those that the model was trained on.

    They are from ``text``, or else from :func:`.calibration_text`. A small model for which there is
    none writes its own, drawn with ``seed``, so that no data set is needed.

    Raises
    ------
    TextError
        If the vocabulary has no tokens for the text, or it has fewer than two.
    """
    config = loaded.model.config
    length = min(LENGTH, config.context)
    own = calibration_text(loaded) if text is None else text
    if own is not None:
        longest = config.context if loaded.is_builtin and text is None else length
        count = WINDOWS if loaded.is_builtin and text is None else TEXT_WINDOWS
        found = windows(loaded.tokenizer, own, longest, count)
        if not found:
            raise TextError("Text for calibration must have at least 2 tokens")
        return found
    reference = FloatReference(loaded.model, np.float32)
    rng = np.random.default_rng(seed)
    found = []
    for number in range(WINDOWS):
        if progress is not None:
            progress(f"calibrating the model, {number} of {WINDOWS} texts")
        found.append(sample(reference, loaded.tokenizer.bos_id, length, rng))
    return found


def quantize_loaded(
    loaded: LoadedModel,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    activation_bits: int = DEFAULT_ACTIVATION_BITS,
    residual_bits: int = RESIDUAL_BITS,
    text: str | None = None,
) -> QuantizedModel:
    """Calibrate, on ``text`` if there is one, and quantize a model that was read from its files.

    The result is cached, by the numbers of the model and its calibration. ``progress`` is told
    each step, unless it was.

    Raises
    ------
    ModelFileError
        If integers cannot hold a weight.
    TextError
        If ``text`` cannot be used.
    """

    def make() -> QuantizedModel:
        with np.errstate(all="ignore"):  # what overflows is found and named
            windows = calibration_windows(loaded, seed=seed, text=text, progress=progress)
            return _quantize(loaded, windows, progress, activation_bits, residual_bits)

    own = calibration_text(loaded) if text is None else text
    # Sums of floats depend on the instructions that NumPy finds.
    processor = np.show_config(mode="dicts")["SIMD Extensions"]
    begin = loaded.tokenizer.bos_id
    if own is not None:
        begin = tuple(map(tuple, calibration_windows(loaded, text=text)))
    values = (loaded.model, begin, seed, activation_bits, residual_bits, repr(processor))
    key = fingerprint(*values, packages=PACKAGES)
    if key is None:
        return make()
    path = cache_root() / "models" / f"{key}.npz"
    return QuantizedModel.from_bytes(cached_bytes(path, lambda: make().to_bytes()))


def _quantize(
    loaded: LoadedModel,
    windows: list[list[int]],
    progress: Progress | None,
    activation_bits: int,
    residual_bits: int,
) -> QuantizedModel:
    if progress is not None:
        progress("turning the residual stream")
    model = rotate_residual(loaded.model, ROTATION)
    gains, tie = loaded.model.final_norm, None
    if has_one_copy(loaded.model.config) and np.all(gains != 0):
        tie = embedding_of_output(gains, ROTATION)
    small = loaded.model.config.parameters < LARGE
    reference = FloatReference(model, np.float64 if small else np.float32)
    try:
        found = quantize(
            model,
            reference.activations(windows),
            progress,
            activation_bits=activation_bits,
            residual_bits=residual_bits,
            tie=tie,
        )
    except WeightError as error:
        weight = loaded.weight(error.layer, error.name)
        raise ModelFileError(f"{weight} {error}") from None
    return replace(found, rotation=ROTATION)
