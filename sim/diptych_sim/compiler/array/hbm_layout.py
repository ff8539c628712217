# SPDX-License-Identifier: BSD-2-Clause
"""How a model lies in the prefill panel's HBM, shaped for an array."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import TABLE_WORDS, Program
from diptych_sim.golden.quantized import QuantizedModel, has_one_copy
from diptych_sim.llm.model import ModelConfig

__all__ = [
    "HbmImage",
    "Lanes",
    "PrefillError",
    "check_heads",
    "embedding_pitch",
    "lanes_of",
    "matrix_sizes",
    "model_image",
    "model_sizes",
    "packs",
    "rope_bytes",
    "round_up",
]


class PrefillError(ValueError):
    """The prefill panel cannot run this model or prompt."""


def round_up(value: int, step: int) -> int:
    """Round up to a multiple."""
    return -(-value // step) * step


def check_heads(config: ModelConfig, rows: int, columns: int) -> None:
    """Raise PrefillError if heads do not fit an array."""
    d = config.head_dim
    for what, side in (("rows", rows), ("columns", columns)):
        if d % side and side % d:
            raise PrefillError(
                f"Head dimension {d} must divide the array's {what} or be a multiple of them, "
                f"not {side!r}"
            )


@dataclass(frozen=True)
class Lanes:
    """Which lanes heads lie in.

    Keys and values of KV head ``g`` lie at ``g * head_dim``. A query, and a context, lie in the
    same lanes of a piece of ``width`` bytes as the KV head that it meets, so that the array needs
    no rotation: ``places[h]`` is where head ``h`` begins, ``total`` the width of all.
    """

    places: tuple[int, ...]
    total: int

    @staticmethod
    def of(config: ModelConfig, width: int, line: int) -> Lanes:
        """Place heads for pieces of ``width`` bytes."""
        d = config.head_dim
        group = config.heads // config.kv_heads
        if d >= width:
            places = [head * d for head in range(config.heads)]
            return Lanes(tuple(places), round_up(config.heads * d, line))
        used: dict[int, int] = {}
        places = []
        for head in range(config.heads):
            lane = head // group * d % width
            places.append(used.get(lane, 0) * width + lane)
            used[lane] = used.get(lane, 0) + 1
        return Lanes(tuple(places), round_up(max(used.values()) * width, line))

    def spread(self, rows: NDArray[np.int64], head_dim: int) -> NDArray[np.int64]:
        """Move rows [heads * head_dim, ...] to their places, zeros between."""
        out = np.zeros((self.total, *rows.shape[1:]), dtype=np.int64)
        for head, place in enumerate(self.places):
            out[place : place + head_dim] = rows[head * head_dim : (head + 1) * head_dim]
        return out


def lanes_of(config: ModelConfig, array: tuple[int, int]) -> tuple[Lanes, Lanes]:
    """Return the places of queries and of contexts, for an array of rows and columns."""
    line = max(array)
    queries, contexts = (Lanes.of(config, side, line) for side in array)
    return queries, contexts


@dataclass
class HbmImage:
    """Bytes of the HBM, and where its parts begin."""

    data: bytearray = field(default_factory=bytearray)
    at: dict[str, int] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, array: NDArray[np.generic]) -> None:
        """Append an array at a multiple of 64 bytes."""
        self.data += bytes(-len(self.data) % 64)
        self.at[name] = len(self.data)
        self.data += array.tobytes()
        self.size[name] = len(self.data) - self.at[name]

    def start_of(self, name: str) -> int:
        """Return the value of :class:`~diptych.systolic.isa.Program` that starts a program."""
        beats = -(-self.size[name] // BEAT_BYTES)
        return Program().const({"address": self.at[name], "beats": beats}).as_value().value


def rope_bytes(config: ModelConfig, columns: int) -> int:
    """Return the bytes of a position's RoPE factors."""
    return 2 * max(config.head_dim, columns)


def embedding_pitch(config: ModelConfig, line: int) -> int:
    """Return the bytes from a token's embedding to the next one's: whole lines, and beats."""
    return round_up(config.dim, max(BEAT_BYTES, line))


def packs(rows: int, columns: int) -> bool:
    """Whether weights lie tile after tile: where a weight row takes a whole line."""
    return columns >= rows


def _weights(matrix: NDArray[np.int64], array: tuple[int, int]) -> NDArray[np.int8]:
    """Weights [out, in] as the array reads them: [in, out], both padded to lines, or its tiles."""
    rows, columns = array
    line = max(array)
    wide = np.zeros(
        (round_up(matrix.shape[1], line), round_up(matrix.shape[0], line)), dtype=np.int8
    )
    wide[: matrix.shape[1], : matrix.shape[0]] = matrix.T
    if not packs(rows, columns):
        return wide
    tiles = wide.reshape(wide.shape[0] // rows, rows, wide.shape[1] // columns, columns)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3))


def _words(scales: NDArray[np.int64], line: int) -> NDArray[np.uint32]:
    out = np.zeros(round_up(len(scales), line), dtype="<u4")
    out[: len(scales)] = scales
    return out


def model_image(
    model: QuantizedModel,
    *,
    array: tuple[int, int],
    image: HbmImage | None = None,
) -> tuple[HbmImage, dict[str, int]]:
    """Return the model's part of the HBM, and the entry of each set of scale words.

    It is behind what ``image`` has, if one is given.

    Weights of a layer are one region ``layer<n>``, whose parts are ``layer<n>.<name>``; all scale
    words are one region ``parameters``.
    """
    c = model.config
    d = c.head_dim
    columns, line = array[1], max(array)
    queries, contexts = lanes_of(c, array)
    image = image or HbmImage()
    entries: dict[str, int] = {}
    words: list[NDArray[np.uint32]] = []

    def scale(name: str, scales: NDArray[np.int64]) -> None:
        entries[name] = sum(map(len, words)) // columns
        words.append(_words(scales, line))

    for index, w in enumerate(model.layers):
        begin = round_up(len(image.data), 64)
        matrices = {
            "wq": queries.spread(w.wq.astype(np.int64), d),
            "wk": w.wk,
            "wv": w.wv,
            "wo": contexts.spread(w.wo.T.astype(np.int64), d).T,
            "w_gate": w.w_gate,
            "w_up": w.w_up,
            "w_down": w.w_down,
        }
        if index == 0 and model.tie is not None:
            matrices["w_tie"] = model.tie
        for name, matrix in matrices.items():
            image.add(f"layer{index}.{name}", _weights(matrix.astype(np.int64), array))
        image.at[f"layer{index}"] = begin
        image.size[f"layer{index}"] = len(image.data) - begin
        scale(f"layer{index}.q", queries.spread(w.q_scale, d))
        for name in ("k", "v", "o", "gate", "up", "down"):
            scale(f"layer{index}.{name}", getattr(w, f"{name}_scale"))
        scale(f"layer{index}.context", np.full(columns, w.context_scale))
        if w.bq is not None and w.bk is not None and w.bv is not None:
            parts = (queries.spread(w.bq, d), w.bk, w.bv)
            biases = np.concatenate([_words(part, line).view("<i4") for part in parts])
            image.add(f"layer{index}.biases", biases)
        for name, gain in (("q_norm", w.q_norm), ("k_norm", w.k_norm)):
            if gain is not None:
                scale(f"layer{index}.{name}", np.tile(gain, max(1, columns // d)))
        if index == 0 and model.tie_scale is not None:
            scale("layer0.tie", model.tie_scale)
    image.add("output", _weights(model.output.astype(np.int64), array))
    scale("output", model.output_scale)
    image.add("parameters", np.concatenate(words))

    rows = np.zeros((c.vocab, embedding_pitch(c, line)), dtype=np.int8)
    rows[:, : c.dim] = model.embedding
    image.add("embedding", rows)
    # A beat each for gathers, and without gaps for the table of the engine that loads.
    scales = np.zeros((c.vocab, 16), dtype="<u4")
    scales[:, 0] = model.embedding_scale
    image.add("embedding_scale", scales)
    if c.vocab <= TABLE_WORDS:
        image.add("embedding_table", scales[:, 0])
    # A lane's factor: cosine in even lanes, sine in odd ones.
    factors = model.rope.reshape(c.context, d).astype("<i2")
    width = max(d, columns)
    image.add("rope", np.tile(factors, (1, width // d)))
    return image, entries


def matrix_sizes(c: ModelConfig, array: tuple[int, int]) -> dict[str, int]:
    """Return the bytes of each matrix of a layer in the HBM."""
    line = max(array)
    dim, hidden, kv = (round_up(size, line) for size in (c.dim, c.hidden, c.kv_dim))
    queries, contexts = lanes_of(c, array)
    widths = {"wq": queries.total, "wk": kv, "wv": kv, "wo": contexts.total}
    widths |= dict.fromkeys(("w_gate", "w_up", "w_down"), hidden)
    return {name: dim * width for name, width in widths.items()}


def model_sizes(c: ModelConfig, array: tuple[int, int]) -> dict[str, int]:
    """Return the bytes of each part of the HBM that :func:`model_image` fills, from shapes alone.

    All layers are one part, ``layers``; what makes the embedding of the output belongs to the first.
    """
    columns, line = array[1], max(array)
    d, dim, hidden = c.head_dim, round_up(c.dim, line), round_up(c.hidden, line)
    queries, _ = lanes_of(c, array)
    kv = round_up(c.kv_dim, line)
    layer = sum(round_up(size, 64) for size in matrix_sizes(c, array).values())
    words = round_up(queries.total, line) + 2 * kv + 2 * dim + 2 * hidden + round_up(columns, line)
    sizes = {
        "layers": c.layers * layer,
        "output": dim * round_up(c.vocab, line),
        "parameters": 4 * (c.layers * words + round_up(c.vocab, line)),
        "embedding": c.vocab * embedding_pitch(c, line),
        "embedding_scale": 64 * c.vocab,
        "rope": 2 * c.context * max(d, columns) // d * d,
    }
    if c.vocab <= TABLE_WORDS:
        sizes["embedding_table"] = 4 * c.vocab
    if has_one_copy(c):
        sizes["layers"] += round_up(dim * dim, 64)
        sizes["parameters"] += 4 * dim
    if c.qkv_bias:
        sizes["biases"] = c.layers * round_up(4 * (queries.total + 2 * kv), 64)
    if c.qk_norm:
        sizes["parameters"] += 8 * c.layers * round_up(max(d, columns), line)
    return sizes
