# SPDX-License-Identifier: BSD-2-Clause
"""Small model folders as Hugging Face lays them out, with what a test wants otherwise."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from diptych_sim.llm.hf import layer_names
from diptych_sim.llm.hf_tokenizer import ALPHABET
from diptych_sim.llm.model import ModelConfig, layer_shapes

__all__ = ["byte_level", "sentence_pieces", "write_folder"]

DIM, HIDDEN, HEADS, CONTEXT = 16, 32, 2, 64


def _special(number: int, content: str, **more: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": True, **flags, **more}


def _file(model: Mapping[str, Any], added: list[Any], **more: Any) -> dict[str, Any]:
    plain = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    return {"version": "1.0", **plain, "pre_tokenizer": None, "added_tokens": added, **more} | {
        "model": model
    }


def byte_level(*, without: bytes = b"", bos: bool = False, **model: Any) -> dict[str, Any]:
    """Return byte-level BPE with marks <bos> and <eos>; ``bos`` adds the first to each prompt."""
    letters = [text for text, byte in ALPHABET.items() if byte not in without]
    names = ["<bos>", "<eos>", *letters, "th"]
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [0], "tokens": ["<bos>"]}},
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return _file(
        {
            "type": "BPE",
            "vocab": {name: number for number, name in enumerate(names)},
            "merges": ["t h"],
            **model,
        },
        [_special(0, "<bos>"), _special(1, "<eos>")],
        pre_tokenizer=level | {"use_regex": True},
        decoder=level | {"use_regex": True},
        post_processor=template if bos else None,
    )


def sentence_pieces(
    kind: str = "BPE", *, fallback: bool = True, unknown: bool = True
) -> dict[str, Any]:
    """Return a vocabulary with byte tokens, in which the marks are words as others are."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), "\u2581", *"abcthes<>"]
    names += ["th", "<s"]
    model: dict[str, Any] = {"type": kind, "byte_fallback": fallback}
    if kind == "BPE":
        model |= {
            "vocab": {name: number for number, name in enumerate(names)},
            "merges": ["t h", "< s", "<s >"],
            "unk_token": "<unk>" if unknown else None,
            "fuse_unk": True,
        }
    else:
        model |= {"vocab": [[name, -1.0 - number / 100] for number, name in enumerate(names)]}
        model |= {"unk_id": 0}
    return _file(
        model,
        [_special(0, "<unk>"), _special(1, "<s>"), _special(2, "</s>")],
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
    )


def write_folder(
    folder: Path,
    *,
    tokenizer: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, float] | None = None,
    **files: Mapping[str, Any],
) -> str:
    """Write a model of random weights, and return its folder.

    ``config`` has further settings, ``weights`` values that whole weights have, by parts of their
    names; ``files`` are further JSON files, by name.
    """
    tokenizer = tokenizer or byte_level(bos=True)
    vocab = len(tokenizer["model"]["vocab"])
    shape = ModelConfig(
        dim=DIM, hidden=HIDDEN, layers=1, heads=HEADS, kv_heads=1, vocab=vocab, context=CONTEXT
    )
    settings = {
        "model_type": "llama",
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "vocab_size": vocab,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    rng = np.random.default_rng(1)
    arrays = {
        "model.embed_tokens.weight": rng.normal(0, 0.5, (vocab, DIM)),
        "model.norm.weight": np.ones(DIM),
    }
    names, shapes = layer_names(0), layer_shapes(shape)
    arrays |= {names[short]: rng.normal(0, 0.3, shape) for short, shape in shapes.items()}
    for name in arrays:
        for part, value in (weights or {}).items():
            if part in name:
                arrays[name] = np.full(arrays[name].shape, value)
    folder.mkdir(exist_ok=True)
    texts = {"config": {**settings, **(config or {})}, "tokenizer": tokenizer, **files}
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(json.dumps(text))
    save_file({n: a.astype(np.float32) for n, a in arrays.items()}, folder / "model.safetensors")
    return str(folder)
