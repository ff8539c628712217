# SPDX-License-Identifier: BSD-2-Clause
"""A llama2.c file of random weights, with its tokenizer."""

import struct
from itertools import chain
from pathlib import Path

import numpy as np

from diptych_sim.llm.hf import layer_names
from diptych_sim.llm.model import ModelConfig
from diptych_sim.llm.rotary import interleave

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, CONTEXT = 16, 24, 2, 4, 2, 32
PIECES = [
    b"<unk>",
    b"\n<s>\n",
    b"\n</s>\n",
    *(b"<0x%02X>" % n for n in range(256)),
    b" ",
    b"a",
    b"b",
]
VOCAB = len(PIECES)


def write_llama2c(folder: Path, seed: int = 1) -> Path:
    """Write a model of random weights and its tokenizer as llama2.c does."""
    rng = np.random.default_rng(seed)
    path = folder / "model.bin"
    kv_dim = DIM // HEADS * KV_HEADS
    layer = 2 * DIM * DIM + 2 * kv_dim * DIM + 3 * HIDDEN * DIM + 2 * DIM
    count = VOCAB * DIM + LAYERS * layer + DIM
    header = struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT)
    weights = rng.normal(0, 0.3, count + CONTEXT * DIM // HEADS).astype("<f4")
    path.write_bytes(header + weights.tobytes())
    tokens = b"".join(
        struct.pack("<fi", -float(number), len(piece)) + piece
        for number, piece in enumerate(PIECES)
    )
    (folder / f"tok{VOCAB}.bin").write_bytes(struct.pack("<i", 8) + tokens)
    return path


def tiny_llama2c(
    path: Path, arrays: dict[str, np.ndarray], config: ModelConfig, version: int
) -> None:
    """Write arrays of a Llama model, by names of safetensors, as llama2.c's export.py does.

    Version 2 holds int8 in groups of 16.
    """
    names = [layer_names(index) for index in range(config.layers)]

    def all_of(short: str) -> list[np.ndarray]:
        found = [arrays[each[short]] for each in names]
        paired = short in ("wq", "wk")
        return [interleave(array, config.head_dim) for array in found] if paired else found

    embedding, final = arrays["model.embed_tokens.weight"], arrays["model.norm.weight"]
    output = [] if config.tied else [arrays["lm_head.weight"]]
    sizes = (config.dim, config.hidden, config.layers, config.heads, config.kv_heads)
    if version == 0:
        header = struct.pack(
            "<7i", *sizes, config.vocab * (1 if output == [] else -1), config.context
        )
        parts = [embedding, *chain.from_iterable(map(all_of, ORDER_0)), final]
        parts += [np.zeros(config.context * config.head_dim, np.float32), *output]
        path.write_bytes(header + b"".join(part.astype("<f4").tobytes() for part in parts))
        return
    header = struct.pack(
        "<Ii7iB", 0x616B3432, version, *sizes, config.vocab, config.context, not output
    )
    header += struct.pack("<i", 16) if version == 2 else b""
    data = header.ljust(256, b"\0")
    norms = [*all_of("attention_norm"), *all_of("mlp_norm"), final]
    data += b"".join(part.astype("<f4").tobytes() for part in norms)
    matrices = [embedding, *chain.from_iterable(map(all_of, MATRICES)), *output]
    for matrix in matrices:
        if version == 1:
            data += matrix.astype("<f4").tobytes()
            continue
        groups = matrix.reshape(-1, 16)
        scales = (np.abs(groups).max(1) / 127).astype("<f4")
        values = np.round(groups / scales[:, None]).astype(np.int8)
        data += values.tobytes() + scales.tobytes()
    path.write_bytes(data)


MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_down", "w_up")
ORDER_0 = ("attention_norm", "wq", "wk", "wv", "wo", "mlp_norm", "w_gate", "w_down", "w_up")


def write_tokenizer(path: Path, vocab: int) -> None:
    """Write a tokenizer of ``vocab`` tokens beside a model."""
    pieces = [*PIECES[:259], *(b"w%d" % n for n in range(259, vocab))][:vocab]
    tokens = b"".join(struct.pack("<fi", -float(n), len(p)) + p for n, p in enumerate(pieces))
    path.write_bytes(struct.pack("<i", 8) + tokens)
