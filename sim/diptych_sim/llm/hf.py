# SPDX-License-Identifier: BSD-2-Clause
"""Reads folders as Hugging Face lays them out: config, safetensors, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig, layer_shapes
from diptych_sim.llm.rotary import interleave
from diptych_sim.llm.tokenizer import HfTokenizer

__all__ = ["layer_names", "load_folder"]

_DEFAULT_THETA = 10000.0
_LONGEST = 2**20
"""Context at most: tables are made for every position."""
_IGNORED = ("rotary_emb.inv_freq",)
_TYPES = {"F32": 4, "F16": 2, "BF16": 2}


def layer_names(index: int) -> dict[str, str]:
    """Name in a safetensors file of every array of layer ``index``, by our name."""
    prefix = f"model.layers.{index}"
    return {
        "attention_norm": f"{prefix}.input_layernorm.weight",
        "wq": f"{prefix}.self_attn.q_proj.weight",
        "wk": f"{prefix}.self_attn.k_proj.weight",
        "wv": f"{prefix}.self_attn.v_proj.weight",
        "wo": f"{prefix}.self_attn.o_proj.weight",
        "mlp_norm": f"{prefix}.post_attention_layernorm.weight",
        "w_gate": f"{prefix}.mlp.gate_proj.weight",
        "w_up": f"{prefix}.mlp.up_proj.weight",
        "w_down": f"{prefix}.mlp.down_proj.weight",
    }


WEIGHTS = "model.safetensors"
EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
OUTPUT = "lm_head.weight"


def load_folder(folder: Path, *, name: str | None = None) -> tuple[Model, HfTokenizer]:
    """Read ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of ``folder``.

    Where they are, ``generation_config.json`` names further marks that end a text, and
    ``tokenizer_config.json`` says which marks are added to a prompt.

    Raises
    ------
    ModelFileError
        If a file is missing, truncated, of another format, or holds what we cannot run.
    """
    settings = _read_settings(folder / "config.json")
    try:
        config = _config(settings)
    except ValueError as error:
        raise ModelFileError(f"Model config {folder / 'config.json'}: {error}") from error
    bos_id, eos_ids = _read_marks(folder, settings)
    added = _added_marks(folder)
    model = _model(folder / WEIGHTS, config, name or folder.resolve().name)
    path = folder / "tokenizer.json"
    try:
        source = _read(path, "Tokenizer file").decode()
        tokenizer = HfTokenizer(
            source, vocab_size=config.vocab, bos_id=bos_id, eos_ids=eos_ids, added=added
        )
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"Tokenizer file {path}: {_one_line(error)}") from error
    return model, tokenizer


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read(path: Path, words: str) -> bytes:
    file_size(path, words)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{words} {path} must be readable, not: {error.strerror}") from error


def _read_settings(path: Path, words: str = "Model config") -> Mapping[str, Any]:
    try:
        settings = json.loads(_read(path, words))
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{words} {path} must be JSON: {_one_line(error)}") from error
    if not isinstance(settings, dict):
        raise ModelFileError(f"{words} {path} must be an object, not {settings!r:.40}")
    return settings


_REQUIRED: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "model_type": ("Architecture", ("llama",)),
    "hidden_act": ("Activation", ("silu",)),
    "attention_bias": ("Attention bias", (False,)),
    "mlp_bias": ("Bias of the gated network", (False,)),
    "quantization_config": ("Quantization", (None,)),
}
"""Supported values by key of config.json; an absent key means the first value."""


def _config(settings: Mapping[str, Any]) -> ModelConfig:
    architectures = settings.get("architectures") or ["LlamaForCausalLM"]
    if architectures != ["LlamaForCausalLM"]:
        raise ValueError(f"Architecture must be LlamaForCausalLM, not {architectures!r}")
    for key, (words, allowed) in _REQUIRED.items():
        value = settings.get(key, allowed[0])
        if value not in allowed:
            raise ValueError(f"{words} ({key}) must be {allowed[0]!r}, not {value!r}")
    # Absent means untied, in this format.
    if settings.get("tie_word_embeddings", False) is not True:
        raise ValueError("Output must be tied to the embedding (tie_word_embeddings), not separate")
    heads = _number(settings, "num_attention_heads", int)
    config = ModelConfig(
        dim=_number(settings, "hidden_size", int),
        hidden=_number(settings, "intermediate_size", int),
        layers=_number(settings, "num_hidden_layers", int),
        heads=heads,
        kv_heads=_number(settings, "num_key_value_heads", int, heads),
        vocab=_number(settings, "vocab_size", int),
        context=_number(settings, "max_position_embeddings", int),
        rope_theta=_rope_theta(settings),
        norm_eps=_number(settings, "rms_norm_eps", float, 1e-6),
    )
    if config.context > _LONGEST:
        raise ValueError(
            f"Context length (max_position_embeddings) must be at most {_LONGEST}, "
            f"not {config.context!r}"
        )
    head_dim = settings.get("head_dim")
    if head_dim not in (None, config.head_dim):
        raise ValueError(
            f"Head width (head_dim) must be the model width over the number of heads, "
            f"{config.head_dim!r}, not {head_dim!r}"
        )
    return config


def _number(settings: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = settings.get(key)
    if value is None:
        value = default
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        words = "a whole number" if kind is int else "a number"
        raise ValueError(f"{key} must be {words}, not {value!r:.40}")
    return value


def _rope_theta(settings: Mapping[str, Any]) -> float:
    """Return the base of rotary positions; refuse all that is not the plain kind of them.

    It is named in three places, old and new: ``rope_theta``, ``rope_scaling`` and
    ``rope_parameters``. Releases of transformers disagree which one wins, so all must agree.
    """
    found: dict[str, float] = {}
    if settings.get("rope_theta") is not None:
        found["rope_theta"] = _number(settings, "rope_theta", float)
    _check_whole(settings, "partial_rotary_factor")
    for key in ("rope_scaling", "rope_parameters"):
        rope = settings.get(key)
        if rope is None:
            continue
        if type(rope) is not dict:
            raise ValueError(f"Rotary positions ({key}) must be an object, not {rope!r:.40}")
        for name, value in rope.items():
            if name in ("rope_type", "type"):
                if value != "default":
                    raise ValueError(
                        f"Rotary positions ({key}) must be of {name} 'default', not {value!r:.40}"
                    )
            elif name == "rope_theta":
                found[f"rope_theta of {key}"] = _number(rope, name, float)
            elif name == "partial_rotary_factor":
                _check_whole(rope, name)
            else:  # a factor of some scaling, or settings of each kind of layer
                raise ValueError(
                    f"Rotary positions ({key}) must be default, without {name}: {value!r:.40}"
                )
    if len(set(found.values())) > 1:
        words = " and ".join(f"{value!r} ({name})" for name, value in found.items())
        raise ValueError(f"Rotary base must be the same wherever it stands, not {words}")
    return next(iter(found.values()), _DEFAULT_THETA)


def _check_whole(settings: Mapping[str, Any], key: str) -> None:
    if settings.get(key) not in (None, 1):
        raise ValueError(f"Rotary part of a head ({key}) must be 1, not {settings[key]!r:.40}")


def _marks(settings: Mapping[str, Any], key: str) -> list[int]:
    """Return the tokens of a key: a number, a list of them, or none."""
    value = settings.get(key)
    if value is None:
        return []
    return [
        _number({key: each}, key, int) for each in (value if isinstance(value, list) else [value])
    ]


def _read_marks(folder: Path, settings: Mapping[str, Any]) -> tuple[int, list[int]]:
    """Return the mark at which a model begins to write, and those at which it ends."""
    try:
        begins, ends = _marks(settings, "bos_token_id"), _marks(settings, "eos_token_id")
        if not begins + ends:
            raise ValueError("eos_token_id must be a whole number, or a list of them, not None")
    except ValueError as error:
        raise ModelFileError(f"Model config {folder / 'config.json'}: {error}") from error
    path = folder / "generation_config.json"
    if path.exists():
        try:
            ends += _marks(_read_settings(path, "Generation config"), "eos_token_id")
        except ModelFileError:
            raise
        except ValueError as error:
            raise ModelFileError(f"Generation config {path}: {error}") from error
    return (begins or ends)[0], ends


def _added_marks(folder: Path) -> tuple[str | None, str | None] | None:
    """Return the marks that go before and behind every text, as transformers adds them.

    None if tokenizer_config.json leaves it to the post-processor of tokenizer.json.
    """
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return None
    settings = _read_settings(path, "Tokenizer config")
    if not {"add_bos_token", "add_eos_token"} & settings.keys():
        return None
    names = folder / "special_tokens_map.json"
    if names.exists():
        settings = {**_read_settings(names, "Special tokens"), **settings}

    def text(which: str) -> str | None:
        added, mark = settings.get(f"add_{which}_token"), settings.get(f"{which}_token")
        if added not in (None, True, False):
            raise ModelFileError(
                f"Tokenizer config {path}: add_{which}_token must be true or false, not {added!r:.40}"
            )
        if isinstance(mark, dict):
            mark = mark.get("content")
        return mark if added and isinstance(mark, str) else None

    return text("bos"), text("eos")


def _model(path: Path, config: ModelConfig, name: str) -> Model:
    if not path.exists() and path.with_name("model.safetensors.index.json").is_file():
        raise ModelFileError(
            f"Model file {path} must be a file, not missing "
            f"(in several files, which we do not read)"
        )
    # Before a table is made for each layer, as config.json may say anything.
    size = file_size(path, "Model file")
    if size < (least := min(_TYPES.values()) * config.parameters):
        raise ModelFileError(
            f"Model file {path} must have at least {least} bytes for the {config.parameters} "
            f"weights of config.json, not {size} bytes"
        )
    expected: dict[str, tuple[int, ...]] = {
        EMBEDDING: (config.vocab, config.dim),
        FINAL_NORM: (config.dim,),
    }
    shapes = layer_shapes(config)
    for index in range(config.layers):
        expected |= {full: shapes[short] for short, full in layer_names(index).items()}
    arrays = _arrays(path, expected)

    def layer(index: int) -> Layer:
        found = {short: arrays[full] for short, full in layer_names(index).items()}
        found["wq"] = interleave(found["wq"], config.head_dim)
        found["wk"] = interleave(found["wk"], config.head_dim)
        return Layer(**found)

    try:
        return Model(
            config=config,
            name=name,
            embedding=arrays[EMBEDDING],
            layers=tuple(layer(index) for index in range(config.layers)),
            final_norm=arrays[FINAL_NORM],
        )
    except ValueError as error:
        raise ModelFileError(f"Model file {path}: {error}") from error


def _arrays(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Arrays of the file by name; shapes and types are checked before any data is read."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            names = {key for key in file.keys() if not key.endswith(_IGNORED)}  # noqa: SIM118
            for key in sorted(expected):
                if key not in names:
                    raise ModelFileError(f"Model file {path} must hold {key}, which is missing")
            unknown = sorted(names - expected.keys() - {OUTPUT})
            if unknown:
                raise ModelFileError(
                    f"Model file {path} must hold a Llama model only, not also {unknown[0]}"
                )
            for key in sorted(expected):
                part = file.get_slice(key)
                shape, kind = tuple(part.get_shape()), part.get_dtype()
                if shape != expected[key]:
                    raise ModelFileError(
                        f"Model file {path}: shape of {key} must be {expected[key]!r}, "
                        f"not {shape!r}"
                    )
                if kind not in _TYPES:
                    raise ModelFileError(
                        f"Model file {path}: type of {key} must be one of {', '.join(_TYPES)}, "
                        f"not {kind}"
                    )
        raw = dict(safetensors.deserialize(path.read_bytes()))
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(
            f"Model file {path} must be a complete safetensors file: {_one_line(error)}"
        ) from error
    arrays = {key: _floats(raw[key]) for key in expected}
    if OUTPUT in raw and not np.array_equal(_floats(raw[OUTPUT]), arrays[EMBEDDING]):
        raise ModelFileError(
            f"Model file {path}: {OUTPUT} must equal the embedding that it is tied to"
        )
    return arrays


def _floats(raw: Mapping[str, Any]) -> Floats:
    data: bytes = bytes(raw["data"])
    if raw["dtype"] == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(data, f"<f{_TYPES[raw['dtype']]}").astype(np.float32)
    return values.reshape(raw["shape"])
