# SPDX-License-Identifier: BSD-2-Clause
"""Reads the model files of llama2.c, versions 0, 1 and 2, and their tokenizers."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.limits import check_size
from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig, layer_shapes
from diptych_sim.llm.tokenizer import Llama2cTokenizer

__all__ = ["find_tokenizer", "load_model_file", "load_tokenizer_file"]

_HEADER = struct.Struct("<7i")
_VERSIONED = 0x616B3432
_VERSIONED_HEADER = struct.Struct("<Ii7iBi")
"""Magic, version, the numbers of version 0, whether the output is tied, values of a group."""
_PADDED = 256
"""Bytes of the header from version 1 on."""
_MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_down", "w_up")
_ORDER_0 = ("attention_norm", "wq", "wk", "wv", "wo", "mlp_norm", "w_gate", "w_down", "w_up")
_LARGEST_PIECE = 1024


def load_model_file(path: Path) -> Model:
    """Read the model file ``path``, of version 0, 1 or 2.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another format, or holds what we cannot run.
    """
    size = file_size(path, "Model file")
    with path.open("rb") as file:
        header = file.read(_PADDED)
    if len(header) < _HEADER.size:
        raise ModelFileError(
            f"Model file {path} must be a llama2.c file of at least {_HEADER.size} bytes, "
            f"not {size} bytes"
        )
    try:
        version, config, group = _config(header)
        check_size(config)
        expected = _size(version, config, group)
    except ValueError as error:
        raise ModelFileError(f"Model file {path} must be a llama2.c file: {error}") from error
    if size != expected:
        what = "truncated to" if size < expected else "of another format with"
        raise ModelFileError(
            f"Model file {path} must be a llama2.c file of {expected} bytes, as its header says, "
            f"not {what} {size} bytes"
        )
    try:
        reader = _Reader(np.memmap(path, np.uint8, "r"), config)
        arrays = reader.version_0() if version == 0 else reader.later(group)
        return Model(
            config=config,
            name=path.stem,
            embedding=arrays["embedding"],
            layers=tuple(
                Layer(**{name: arrays[name][index] for name in layer_shapes(config)})
                for index in range(config.layers)
            ),
            final_norm=arrays["final_norm"],
            unembedding=arrays.get("output"),
        )
    except ValueError as error:
        raise ModelFileError(f"Model file {path}: {error}") from error


def _config(header: bytes) -> tuple[int, ModelConfig, int]:
    """Return version, shape, and values of a group that have one scale (0: floats)."""
    version, group, tied = 0, 0, 1
    numbers = _HEADER.unpack_from(header)
    if numbers[0] == _VERSIONED:
        if len(header) < _PADDED:
            raise ValueError(f"Header must have {_PADDED} bytes, not {len(header)} bytes")
        _, version, *rest, tied, group = _VERSIONED_HEADER.unpack_from(header)
        if version not in (1, 2):
            raise ValueError(f"Version must be 0, 1 or 2, not {version}")
        if tied not in (0, 1):
            raise ValueError(f"Mark of a tied output must be 0 or 1, not {tied}")
        numbers = tuple(rest)
        group = group if version == 2 else 0
    dim, hidden, layers, heads, kv_heads, vocab, context = numbers
    if version == 0:
        tied, vocab = vocab > 0, abs(vocab)
    config = ModelConfig(
        dim=dim,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        vocab=vocab,
        context=context,
        tied=bool(tied),
    )
    if version == 2:
        shapes = [(vocab, dim), *(layer_shapes(config)[name] for name in _MATRICES)]
        if group < 1 or any(math.prod(shape) % group for shape in shapes):
            raise ValueError(f"Values of a group must divide those of each matrix, not {group}")
    return version, config, group


def _size(version: int, config: ModelConfig, group: int) -> int:
    """Bytes of a file."""
    if version == 0:
        # Two tables of rotary cosines and sines, which are unused.
        return _HEADER.size + 4 * (config.parameters + config.context * config.head_dim)
    if version == 1:
        return _PADDED + 4 * config.parameters
    norms = (2 * config.layers + 1) * config.dim
    matrices = config.parameters - norms
    return _PADDED + 4 * norms + matrices + 4 * (matrices // group)


class _Reader:
    """Takes one array after the other from the bytes of a file."""

    def __init__(self, data: np.memmap, config: ModelConfig) -> None:
        self._data, self._config, self._at = data, config, 0

    def _bytes(self, count: int) -> NDArray[np.uint8]:
        self._at += count
        return self._data[self._at - count : self._at]

    def _floats(self, *shape: int) -> Floats:
        raw = self._bytes(4 * math.prod(shape))
        return np.frombuffer(raw.tobytes(), "<f4").astype(np.float32, copy=False).reshape(shape)

    def _matrix(self, group: int, *shape: int) -> Floats:
        """Return floats, or int8 in groups with their scales behind them."""
        if not group:
            return self._floats(*shape)
        values = self._bytes(math.prod(shape)).view(np.int8).reshape(-1, group)
        scales = self._floats(len(values))
        if not np.isfinite(scales).all():
            raise ValueError("Scales must be finite, not NaN or infinity")
        if (scales < 0).any():
            raise ValueError(f"Scales must be at least 0, not {float(scales.min())!r}")
        return (values * scales[:, None]).reshape(shape)

    def version_0(self) -> dict[str, Floats]:
        c, shapes = self._config, layer_shapes(self._config)
        self._at = _HEADER.size
        arrays = {"embedding": self._floats(c.vocab, c.dim)}
        arrays |= {name: self._floats(c.layers, *shapes[name]) for name in _ORDER_0}
        arrays["final_norm"] = self._floats(c.dim)
        if not c.tied:
            self._bytes(4 * c.context * c.head_dim)
            arrays["output"] = self._floats(c.vocab, c.dim)
        return arrays

    def later(self, group: int) -> dict[str, Floats]:
        c, shapes = self._config, layer_shapes(self._config)
        self._at = _PADDED
        arrays = {name: self._floats(c.layers, c.dim) for name in ("attention_norm", "mlp_norm")}
        arrays["final_norm"] = self._floats(c.dim)
        arrays["embedding"] = self._matrix(group, c.vocab, c.dim)
        for name in _MATRICES:  # each layer's scales behind its values
            each = [self._matrix(group, *shapes[name]) for _ in range(c.layers)]
            arrays[name] = np.stack(each)
        if not c.tied:
            arrays["output"] = self._matrix(group, c.vocab, c.dim)
        return arrays


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
