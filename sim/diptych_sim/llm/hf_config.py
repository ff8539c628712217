# SPDX-License-Identifier: BSD-2-Clause
"""Reads the ``config.json`` of a folder as Hugging Face lays it out: which models we run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych_sim.llm.limits import check_size
from diptych_sim.llm.model import ModelConfig
from diptych_sim.llm.rotary import linear_divisors, llama3_divisors

__all__ = ["config_of", "marks", "number"]

_DEFAULT_THETA = 10000.0
_DEFAULT_WINDOW = 4096
"""What transformers takes where a file with a window does not say how wide it is."""
_MODELS = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Architecture by model_type."""
_REQUIRED: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "hidden_act": ("Activation", ("silu",)),
    "mlp_bias": ("Bias of the gated network", (False,)),
    "quantization_config": ("Quantization", (None,)),
}
"""Supported values by key of config.json; an absent key means the first value."""
_MOST_MARKS = 128
_SCALINGS = ("default", "linear", "llama3")
_LLAMA3 = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def number(settings: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """Return a number of a key.

    Raises
    ------
    ValueError
        If it is no number of that kind.
    """
    value = settings.get(key)
    if value is None:
        value = default
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind:
        words = "a whole number" if kind is int else "a number"
        raise ValueError(f"{key} must be {words}, not {value!r:.40}")
    return value


def marks(settings: Mapping[str, Any], key: str) -> list[int]:
    """Return the tokens of a key: a number, a list of them, or none.

    Raises
    ------
    ValueError
        If it is something else, or more than programs of tiles have room for.
    """
    value = settings.get(key)
    if value is None:
        return []
    each = value if isinstance(value, list) else [value]
    if len(each) > _MOST_MARKS:
        raise ValueError(f"{key} must be at most {_MOST_MARKS} numbers, not {len(each)}")
    return [number({key: one}, key, int) for one in each]


def config_of(settings: Mapping[str, Any]) -> ModelConfig:
    """Return the shape that a ``config.json`` describes.

    Raises
    ------
    ValueError
        If we cannot run such a model; the message names the key.
    """
    kind = settings.get("model_type", "llama")
    if not isinstance(kind, str) or kind not in _MODELS:
        raise ValueError(
            f"Architecture (model_type) must be one of {', '.join(_MODELS)}, not {kind!r:.40}"
        )
    architectures = settings.get("architectures") or [_MODELS[kind]]
    if architectures != [_MODELS[kind]]:
        raise ValueError(f"Architecture must be {_MODELS[kind]}, not {architectures!r:.60}")
    for key, (words, allowed) in _REQUIRED.items():
        value = settings.get(key, allowed[0])
        if value not in allowed:
            raise ValueError(f"{words} ({key}) must be {allowed[0]!r}, not {value!r:.40}")
    # Qwen2 has these biases whatever its file says; the others would have one of the output, too.
    if kind != "qwen2" and settings.get("attention_bias", False) is not False:
        raise ValueError(
            f"Attention bias (attention_bias) must be False, not {settings['attention_bias']!r:.40}"
        )
    # Absent means untied, in this format.
    tied = settings.get("tie_word_embeddings", False)
    if type(tied) is not bool:
        raise ValueError(f"tie_word_embeddings must be true or false, not {tied!r:.40}")
    heads = number(settings, "num_attention_heads", int)
    context = number(settings, "max_position_embeddings", int)
    _check_window(settings, kind, context)
    head_width = settings.get("head_dim")
    config: dict[str, Any] = {
        "dim": number(settings, "hidden_size", int),
        "hidden": number(settings, "intermediate_size", int),
        "layers": number(settings, "num_hidden_layers", int),
        "heads": heads,
        "kv_heads": number(settings, "num_key_value_heads", int, heads),
        "vocab": number(settings, "vocab_size", int),
        "context": context,
        "norm_eps": number(settings, "rms_norm_eps", float, 1e-6),
        "head_width": None if head_width is None else number(settings, "head_dim", int),
        "tied": tied,
        "qkv_bias": kind == "qwen2",
        "qk_norm": kind == "qwen3",
    }
    if config["head_width"] is None and kind == "qwen3":
        config["head_width"] = 128  # what transformers takes where the file says nothing
    plain = ModelConfig(**config)
    check_size(plain)
    theta, divisors = _rope(settings, plain.head_dim)
    if config["head_width"] is not None and config["head_width"] * heads == config["dim"]:
        config["head_width"] = None
    return ModelConfig(**config, rope_theta=theta, rope_divisors=divisors)


def _check_window(settings: Mapping[str, Any], kind: str, context: int) -> None:
    """Refuse attention that does not see all of the context."""
    window = settings.get("sliding_window", _DEFAULT_WINDOW)
    if kind != "mistral" and settings.get("use_sliding_window") is not True:
        window = None  # Mistral has no such switch
    if window is not None and (type(window) is not int or window < context):
        raise ValueError(
            f"Window of attention (sliding_window) must be at least the context of {context}, "
            f"not {window!r:.40}"
        )
    types = settings.get("layer_types")
    if types is None:
        return
    if type(types) is not list:
        raise ValueError(f"Kinds of layers (layer_types) must be a list, not {types!r:.40}")
    for name in types:
        if name != "full_attention" and (name != "sliding_attention" or window is None):
            raise ValueError(
                f"Kinds of layers (layer_types) must be 'full_attention', not {name!r:.40}"
            )


def _rope(settings: Mapping[str, Any], head_dim: int) -> tuple[float, tuple[float, ...]]:
    """Return base and divisors of rotary positions.

    The base is named in three places, old and new: ``rope_theta``, ``rope_scaling`` and
    ``rope_parameters``. Releases of transformers disagree which one wins, so all must agree, and so
    must scalings.
    """
    bases: dict[str, float] = {}
    if settings.get("rope_theta") is not None:
        bases["rope_theta"] = number(settings, "rope_theta", float)
    _check_whole(settings, "partial_rotary_factor")
    scalings: dict[str, tuple[str, tuple[float, ...]]] = {}
    for key in ("rope_scaling", "rope_parameters"):
        rope = settings.get(key)
        if rope is None:
            continue
        if type(rope) is not dict:
            raise ValueError(f"Rotary positions ({key}) must be an object, not {rope!r:.40}")
        if rope.get("rope_theta") is not None:
            bases[f"rope_theta of {key}"] = number(rope, "rope_theta", float)
        _check_whole(rope, "partial_rotary_factor")
        scalings[key] = _scaling(rope, key)
    if len(set(bases.values())) > 1:
        words = " and ".join(f"{value!r} ({name})" for name, value in bases.items())
        raise ValueError(f"Rotary base must be the same wherever it stands, not {words}")
    if len(set(scalings.values())) > 1:
        raise ValueError("Rotary positions (rope_scaling, rope_parameters) must be the same")
    theta = next(iter(bases.values()), _DEFAULT_THETA)
    if not 0 < theta < float("inf"):
        raise ValueError(f"Rotary base must be greater than 0, not {theta!r}")
    kind, factors = next(iter(scalings.values()), ("default", ()))
    if kind == "linear":
        return theta, linear_divisors(head_dim, *factors)
    if kind == "llama3":
        return theta, llama3_divisors(head_dim, theta, *factors)
    return theta, ()


def _scaling(rope: Mapping[str, Any], key: str) -> tuple[str, tuple[float, ...]]:
    """Return kind and factors of a scaling, and refuse what is not known of it."""
    names = [name for name in ("rope_type", "type") if name in rope]
    kinds = {repr(rope[name]): rope[name] for name in names}
    if len(kinds) > 1:
        raise ValueError(f"Rotary positions ({key}) must be of one kind, not {' and '.join(kinds)}")
    kind = next(iter(kinds.values()), "default")
    if kind not in _SCALINGS:
        raise ValueError(
            f"Rotary positions ({key}) must be of {names[0]} {', '.join(map(repr, _SCALINGS))}, "
            f"not {kind!r:.40}"
        )
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    needed = {"default": (), "linear": ("factor",), "llama3": ("factor", *_LLAMA3)}[kind]
    for name, value in rope.items():
        if name not in known and name not in needed:
            raise ValueError(
                f"Rotary positions ({key}) must be {kind}, without {name}: {value!r:.40}"
            )
    factors = []
    for name in needed:
        value = number(rope, name, float)
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} of {key} must be greater than 0, not {value!r}")
        factors.append(value)
    return kind, tuple(factors)


def _check_whole(settings: Mapping[str, Any], key: str) -> None:
    if settings.get(key) not in (None, 1):
        raise ValueError(f"Rotary part of a head ({key}) must be 1, not {settings[key]!r:.40}")
