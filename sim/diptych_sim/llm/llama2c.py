# SPDX-License-Identifier: BSD-2-Clause
"""Reads the model files of llama2.c (its first format, without a version) and their tokenizers."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig, layer_shapes
from diptych_sim.llm.tokenizer import Llama2cTokenizer

__all__ = ["find_tokenizer", "load_model_file", "load_tokenizer_file"]

_HEADER = struct.Struct("<7i")
_VERSIONED = 0x616B3432
_ORDER = (
    "attention_norm",
    "wq",
    "wk",
    "wv",
    "wo",
    "mlp_norm",
    "w_gate",
    "w_down",
    "w_up",
)
"""Arrays of the layers as they follow each other in the file, each for all layers."""
_LARGEST_PIECE = 1024


def load_model_file(path: Path) -> Model:
    """Read the model file ``path``.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another format, or holds what we cannot run.
    """
    size = file_size(path, "Model file")
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        config = _config(path, header, size)
        values = np.fromfile(file, "<f4")
    at = 0

    def take(*shape: int) -> Floats:
        nonlocal at
        count = math.prod(shape)
        at += count
        return np.ascontiguousarray(values[at - count : at], np.float32).reshape(shape)

    embedding = take(config.vocab, config.dim)
    shapes = layer_shapes(config)
    stacked = {name: take(config.layers, *shapes[name]) for name in _ORDER}
    layers = tuple(
        Layer(**{name: array[index] for name, array in stacked.items()})
        for index in range(config.layers)
    )
    try:
        return Model(
            config=config,
            name=path.stem,
            embedding=embedding,
            layers=layers,
            final_norm=take(config.dim),
        )
    except ValueError as error:
        raise ModelFileError(f"Model file {path}: {error}") from error


def _config(path: Path, header: bytes, size: int) -> ModelConfig:
    if len(header) < _HEADER.size:
        raise ModelFileError(
            f"Model file {path} must be a llama2.c file of at least {_HEADER.size} bytes, "
            f"not {size} bytes"
        )
    dim, hidden, layers, heads, kv_heads, vocab, context = _HEADER.unpack(header)
    if dim == _VERSIONED:
        raise ModelFileError(
            f"Model file {path} must be in llama2.c's format 0 (export.py --version 0), "
            f"not format {hidden}"
        )
    if vocab < 0 and min(dim, hidden, layers, heads, kv_heads, context) > 0:
        raise ModelFileError(
            f"Model file {path} must have an output tied to its embedding, "
            f"not a matrix of its own (vocabulary {vocab} in the header)"
        )
    try:
        config = ModelConfig(
            dim=dim,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            vocab=vocab,
            context=context,
        )
    except ValueError as error:
        raise ModelFileError(f"Model file {path} must be a llama2.c file: {error}") from error
    # Two tables of rotary cosines and sines, which are unused, close the file.
    expected = _HEADER.size + 4 * (config.parameters + context * config.head_dim)
    if size != expected:
        what = "truncated to" if size < expected else "of another format with"
        raise ModelFileError(
            f"Model file {path} must be a llama2.c file of {expected} bytes, as its header says, "
            f"not {what} {size} bytes"
        )
    return config


def find_tokenizer(model: Path, vocab: int) -> Path:
    """The tokenizer file beside the file ``model``: ``tok<vocab>.bin`` or ``tokenizer.bin``.

    Raises
    ------
    ModelFileError
        If there is neither.
    """
    candidates = [model.with_name(f"tok{vocab}.bin"), model.with_name("tokenizer.bin")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = " or ".join(candidate.name for candidate in candidates)
    raise ModelFileError(f"Model file {model} must have its tokenizer beside it as {names}")


def load_tokenizer_file(path: Path, vocab: int) -> Llama2cTokenizer:
    """Read the tokenizer file ``path`` of a model with ``vocab`` tokens.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another format, or of another size of vocabulary.
    """
    size = file_size(path, "Tokenizer file")
    # A length and a score a token, and the longest length ahead.
    largest = 4 + vocab * (8 + _LARGEST_PIECE)
    if size > largest:
        raise ModelFileError(
            f"Tokenizer file {path} must be at most {largest} bytes for {vocab} tokens, "
            f"not {size} bytes"
        )
    data = path.read_bytes()
    pieces: list[bytes] = []
    scores: list[float] = []
    at = 4
    for number in range(vocab):
        if at + 8 > size:
            raise ModelFileError(
                f"Tokenizer file {path} must hold the model's {vocab} tokens, not {number}"
            )
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if not 0 <= length <= min(_LARGEST_PIECE, size - at):
            raise ModelFileError(
                f"Tokenizer file {path} must be a llama2.c tokenizer, "
                f"not one with token {number} of length {length}"
            )
        if math.isnan(score):
            raise ModelFileError(f"Tokenizer file {path}: score of token {number} must not be NaN")
        scores.append(score)
        pieces.append(data[at : at + length])
        at += length
    if at != size:
        raise ModelFileError(
            f"Tokenizer file {path} must hold the model's {vocab} tokens in {at} bytes, "
            f"not {size} bytes"
        )
    try:
        return Llama2cTokenizer(pieces, scores)
    except ValueError as error:
        raise ModelFileError(f"Tokenizer file {path}: {error}") from error
