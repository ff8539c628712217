# SPDX-License-Identifier: BSD-2-Clause
"""Reads GGUF files: shape, weights of every type that the ``gguf`` library turns into floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.llm.errors import ModelFileError, file_start
from diptych_sim.llm.gguf_header import GgufHeader, read_header
from diptych_sim.llm.gguf_vocabulary import tokenizer_of
from diptych_sim.llm.limits import check_size
from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig, layer_shapes
from diptych_sim.llm.rotary import ROTATED, interleave, linear_divisors
from diptych_sim.llm.tokenizer import Tokenizer

__all__ = ["OUTSIDE", "is_gguf", "layer_names", "load_gguf", "tensor_floats"]

_PAIRED = {"llama": True, "qwen2": False, "qwen3": False}
"""Architectures, and whether rows of queries and keys are in rotary pairs; else in halves."""
EMBEDDING, FINAL_NORM, OUTPUT = "token_embd.weight", "output_norm.weight", "output.weight"
OUTSIDE = {"embedding": EMBEDDING, "final_norm": FINAL_NORM, "unembedding": OUTPUT}
"""Names of arrays outside of the layers, by our names."""
_ROPE_DIVISORS = "rope_freqs.weight"
_ROWS = 4096
"""Rows that are turned into floats at once."""
_SHORT = {
    "attention_norm": "attn_norm.weight",
    "wq": "attn_q.weight",
    "wk": "attn_k.weight",
    "wv": "attn_v.weight",
    "wo": "attn_output.weight",
    "mlp_norm": "ffn_norm.weight",
    "w_gate": "ffn_gate.weight",
    "w_up": "ffn_up.weight",
    "w_down": "ffn_down.weight",
    "bq": "attn_q.bias",
    "bk": "attn_k.bias",
    "bv": "attn_v.bias",
    "q_norm": "attn_q_norm.weight",
    "k_norm": "attn_k_norm.weight",
}


def layer_names(index: int) -> dict[str, str]:
    """Name in a GGUF file of every array of layer ``index``, by our name."""
    return {short: f"blk.{index}.{name}" for short, name in _SHORT.items()}


def is_gguf(path: Path) -> bool:
    """Whether a file says that it is a GGUF file, by its name or its first bytes."""
    return path.suffix == ".gguf" or file_start(path) == b"GGUF"


def load_gguf(path: Path) -> tuple[Model, Tokenizer, str | None]:
    """Read a GGUF file with its tokenizer, and its template for chats.

    Raises
    ------
    ModelFileError
        If the file is damaged, or holds what we cannot run.
    """
    header = read_header(path)
    try:
        config, paired = _config(header)
        check_size(config)
        tokenizer = tokenizer_of(header.fields, config.vocab)
        model = _model(path, header, config, paired)
    except ValueError as error:
        message = " ".join(str(error).split())
        raise ModelFileError(f"Model file {path}: {message}") from error
    template = header.fields.get("tokenizer.chat_template")
    return model, tokenizer, template if isinstance(template, str) else None


def _number(fields: dict[str, Any], key: str, default: Any = None, kind: type = int) -> Any:
    value = fields.get(key, default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is float:  # float32 in the file: the number that was meant
        value = float(str(np.float32(value)))
    if type(value) is not kind:
        words = "a whole number" if kind is int else "a number"
        what = "missing" if value is None else repr(value)[:40]
        raise ValueError(f"{key} must be {words}, not {what}")
    return value


def _config(header: GgufHeader) -> tuple[ModelConfig, bool]:
    fields, tensors = header.fields, header.tensors
    name = fields.get("general.architecture")
    if not isinstance(name, str) or name not in _PAIRED:
        raise ValueError(
            f"Architecture (general.architecture) must be one of {', '.join(_PAIRED)}, "
            f"not {name!r:.40}"
        )

    def number(key: str, default: Any = None, kind: type = int) -> Any:
        return _number(fields, f"{name}.{key}", default, kind)

    if fields.get("split.count", 1) not in (0, 1):
        raise ValueError(f"Files (split.count) must be 1, not {fields['split.count']!r:.40}")
    if number("expert_count", 0):
        raise ValueError(f"Experts ({name}.expert_count) must be 0, not {number('expert_count')}")
    if EMBEDDING not in tensors or len(tensors[EMBEDDING].shape) != 2:
        raise ValueError(f"Tensors must include {EMBEDDING}, a matrix")
    heads = number("attention.head_count")
    dim = number("embedding_length")
    width = number("attention.key_length", 0)
    if number("attention.value_length", width) != width:
        raise ValueError(f"Values ({name}.attention.value_length) must be as wide as keys, {width}")
    context = number("context_length")
    window = fields.get(f"{name}.attention.sliding_window", 0)
    if type(window) is not int or 0 != window < context:
        raise ValueError(
            f"Window of attention ({name}.attention.sliding_window) must be at least the context "
            f"of {context}, not {window!r:.40}"
        )
    config: dict[str, Any] = {
        "dim": dim,
        "hidden": number("feed_forward_length"),
        "layers": number("block_count"),
        "heads": heads,
        "kv_heads": number("attention.head_count_kv", heads),
        "vocab": tensors[EMBEDDING].shape[0],
        "context": context,
        "rope_theta": number("rope.freq_base", 10000.0, float),
        "norm_eps": number("attention.layer_norm_rms_epsilon", None, float),
        "head_width": width or None,
        "tied": OUTPUT not in tensors,
        "qkv_bias": "blk.0.attn_q.bias" in tensors,
        "qk_norm": "blk.0.attn_q_norm.weight" in tensors,
    }
    plain = ModelConfig(**config)
    check_size(plain)
    turned = number("rope.dimension_count", plain.head_dim)
    if turned != plain.head_dim:
        raise ValueError(
            f"Rotary part of a head ({name}.rope.dimension_count) must be all of it, "
            f"{plain.head_dim}, not {turned}"
        )
    # As llama.cpp: a factor is linear unless another kind is named, and has had another name.
    kind = fields.get(f"{name}.rope.scaling.type", "linear")
    if kind == "linear":
        factor = number("rope.scaling.factor", number("rope.scale_linear", 1.0, float), float)
        if factor not in (0, 1):
            config["rope_divisors"] = linear_divisors(plain.head_dim, factor)
    elif kind != "none":
        raise ValueError(
            f"Rotary positions ({name}.rope.scaling.type) must be none or linear, not {kind!r:.40}"
        )
    return ModelConfig(**config), _PAIRED[name]


def _model(path: Path, header: GgufHeader, config: ModelConfig, paired: bool) -> Model:
    tensors = header.tensors
    shapes = layer_shapes(config)
    expected: dict[str, tuple[int, ...]] = {
        EMBEDDING: (config.vocab, config.dim),
        FINAL_NORM: (config.dim,),
    }
    if not config.tied:
        expected[OUTPUT] = (config.vocab, config.dim)
    names = [{short: layer_names(i)[short] for short in shapes} for i in range(config.layers)]
    for each in names:
        expected |= {full: shapes[short] for short, full in each.items()}
    if _ROPE_DIVISORS in tensors:
        expected[_ROPE_DIVISORS] = (config.head_dim // 2,)
    for name, shape in expected.items():
        if name not in tensors:
            raise ValueError(f"Tensors must include {name}, which is missing")
        if tensors[name].shape != shape:
            raise ValueError(f"Shape of {name} must be {shape!r}, not {tensors[name].shape!r}")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise ValueError(f"Tensors must be those of a Llama model, not also {unknown[0]!r:.60}")
    data = np.memmap(path, np.uint8, "r")

    def floats(name: str) -> Floats:
        return tensor_floats(name, data, header)

    if _ROPE_DIVISORS in tensors:
        divisors = tuple(map(float, floats(_ROPE_DIVISORS)))
        config = ModelConfig(**{**vars(config), "rope_divisors": divisors})

    def layer(each: dict[str, str]) -> Layer:
        found = {short: floats(full) for short, full in each.items()}
        if not paired:
            for short in found.keys() & set(ROTATED):
                found[short] = interleave(found[short], config.head_dim)
        return Layer(**found)

    return Model(
        config=config,
        name=path.stem,
        embedding=floats(EMBEDDING),
        layers=tuple(layer(each) for each in names),
        final_norm=floats(FINAL_NORM),
        unembedding=None if config.tied else floats(OUTPUT),
    )


def tensor_floats(name: str, data: np.memmap, header: GgufHeader) -> Floats:
    """Return a tensor of the file ``data`` as float32.

    Raises
    ------
    ValueError
        If the ``gguf`` library makes no floats of its type.
    """
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    place = header.tensors[name]
    kind = GGMLQuantizationType(place.kind)
    out = np.empty(place.shape, np.float32)
    rows = out.reshape(-1, place.shape[-1])
    raw = data[place.start : place.start + place.size].reshape(len(rows), -1)
    types = {GGMLQuantizationType.F32: "<f4", GGMLQuantizationType.F16: "<f2"}
    for start in range(0, len(rows), _ROWS):
        part = np.ascontiguousarray(raw[start : start + _ROWS])
        try:
            part = part.view(types[kind]) if kind in types else dequantize(part, kind)
        except NotImplementedError:
            raise ValueError(f"Type of {name} must be one with floats, not {kind.name}") from None
        rows[start : start + _ROWS] = part
    return out
