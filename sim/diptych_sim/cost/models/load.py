# SPDX-License-Identifier: BSD-2-Clause
"""Reads the shape of a model from a config.json, ours by name or any other by path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from diptych_sim.cost.models.shape import ModelShape
from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.load import BUILTIN, BUILTIN_FOLDER

__all__ = ["load_shape", "model_names", "read_shape"]

_MOST = 2**24
"""No size of a model is larger."""
_FOREIGN = (
    "kv_lora_rank",
    "ssm_cfg",
    "state_size",
    "linear_num_value_heads",
    "n_shared_experts",
    "shared_expert_intermediate_size",
    "first_k_dense_replace",
    "mlp_only_layers",
)
"""Keys of models with attention, state or experts of another kind, or not the same in all layers."""
_EVERY = ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq")
"""Keys that say that only each so many-th layer has experts."""


def model_names() -> list[str]:
    """Names of the models whose shape is in the package."""
    folder = resources.files(__name__.rpartition(".")[0])
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def load_shape(spec: str) -> ModelShape:
    """Return the shape of a model by name, or of a config.json or its folder by path.

    Names are also those of their makers, as ``meta-llama/Llama-2-7b-chat-hf``.

    Raises
    ------
    ModelFileError
        If there is no such model, or the file is none or lacks a size.
    """
    known = {_plain(name): name for name in model_names()}
    name = spec.lower()
    # A folder of such a name is asked for by a path: ./llama-2-7b.
    by_path = "/" in spec and (spec[0] in "./" or _exists(spec))
    if not by_path and _plain(name) in known:
        name = known[_plain(name)]
        text = (
            resources.files(__name__.rpartition(".")[0])
            .joinpath(f"{name}.json")
            .read_text(encoding="utf-8")
        )
        return read_shape(json.loads(text), name, f"Model {name}")
    path = BUILTIN_FOLDER if name == BUILTIN else Path(spec)
    if name != BUILTIN and not _exists(spec):
        raise ModelFileError(
            f"Model must be one of {', '.join(model_names())}, {BUILTIN}, or a config.json, "
            f"not {spec!r:.60}"
        )
    if path.is_dir():
        path = path / "config.json"
    file_size(path, "Model config")
    try:
        settings = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"Model config {path} must be JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ModelFileError(f"Model config {path} must be an object, not {settings!r:.40}")
    return read_shape(settings, path.resolve().parent.name or path.stem, f"Model config {path}")


def _exists(spec: str) -> bool:
    """Return whether something is at a path, which may be one that cannot be."""
    try:
        return bool(spec) and "\0" not in spec and Path(spec).exists()
    except OSError:
        return False


def _plain(name: str) -> str:
    """Return a name without its maker, what the model was tuned for, and signs."""
    name = name.rpartition("/")[2].removeprefix("meta-")
    for tuned in ("-hf", "-chat", "-instruct"):
        name = name.removesuffix(tuned)
    return re.sub("[-_ ]", "", name)


def read_shape(settings: Mapping[str, Any], name: str, where: str) -> ModelShape:
    """Return the shape that the keys of a config.json say; ``where`` begins messages.

    Raises
    ------
    ModelFileError
        If a size is missing or out of range.
    """
    if isinstance(settings.get("text_config"), dict):
        settings = settings["text_config"]
    for key in _FOREIGN:
        if settings.get(key):
            raise ModelFileError(f"{where}: {key} is of a kind of layer that is not modeled")
    for key in _EVERY:
        if settings.get(key) not in (None, 1):
            raise ModelFileError(
                f"{where}: {key} must be 1, all layers alike, not {settings[key]!r:.40}"
            )

    def size(words: str, *keys: str, default: int | None = None) -> int:
        found = [(key, settings[key]) for key in keys if settings.get(key) is not None]
        key, value = found[0] if found else (keys[0], default)
        if type(value) is not int or not 1 <= value <= _MOST:
            said = "missing" if value is None else repr(value)[:40]
            raise ModelFileError(f"{where}: {words} ({key}) must be from 1 to {_MOST}, not {said}")
        return value

    layers = size("number of layers", "num_hidden_layers")
    dim = size("model width", "hidden_size")
    heads = size("number of heads", "num_attention_heads")
    kv_heads = size("number of KV heads", "num_key_value_heads", default=heads)
    experts = size("number of experts", "num_local_experts", "num_experts", default=1)
    if heads % kv_heads:
        raise ModelFileError(
            f"{where}: number of heads must be a multiple of the number of KV heads {kv_heads}, "
            f"not {heads}"
        )
    used = size("experts of a token", "num_experts_per_tok", "experts_per_token", default=experts)
    if used > experts:
        raise ModelFileError(f"{where}: experts of a token must be at most {experts}, not {used}")
    window, windowed = _window(settings, layers, where)
    return ModelShape(
        name=name,
        layers=layers,
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size("head width", "head_dim", default=max(1, dim // heads)),
        hidden=size("hidden width", "moe_intermediate_size", "intermediate_size"),
        vocab=size("vocabulary size", "vocab_size"),
        tied=settings.get("tie_word_embeddings", False) is True,
        experts=experts,
        experts_per_token=used,
        window=window,
        windowed_layers=windowed,
        qk_norm=settings.get("model_type") == "qwen3",
    )


def _window(settings: Mapping[str, Any], layers: int, where: str) -> tuple[int, int]:
    """Return the positions of a window, and the number of layers that have one."""
    window = settings.get("sliding_window")
    if window is None or settings.get("use_sliding_window") is False:
        return 0, 0
    if type(window) is not int or window < 1:
        raise ModelFileError(f"{where}: window (sliding_window) must be at least 1, not {window!r}")
    types = settings.get("layer_types")
    if types is None:
        return window, layers
    if not isinstance(types, list) or len(types) != layers:
        raise ModelFileError(f"{where}: layer_types must name {layers} layers, not {types!r:.40}")
    return window, types.count("sliding_attention")
