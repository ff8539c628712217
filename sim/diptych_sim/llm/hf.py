# SPDX-License-Identifier: BSD-2-Clause
"""Reads folders as Hugging Face lays them out: config, safetensors, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.hf_config import config_of, marks
from diptych_sim.llm.hf_tokenizer import HfTokenizer
from diptych_sim.llm.json_files import read_json, read_text
from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig, layer_shapes
from diptych_sim.llm.rotary import ROTATED, interleave
from diptych_sim.llm.safetensors_files import WEIGHTS, Arrays, open_arrays

__all__ = ["chat_template", "layer_names", "load_folder", "named_marks"]

_IGNORED = ("rotary_emb.inv_freq",)
_LARGEST_TOKENIZER = 24 * 2**20
"""Bytes at most; those of Llama 3 have 17 million."""
_SMALLEST = 2
"""Bytes of a weight at least."""
EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
OUTPUT = "lm_head.weight"
OUTSIDE = {"embedding": EMBEDDING, "final_norm": FINAL_NORM, "unembedding": OUTPUT}
"""Names of arrays outside of the layers, by our names."""
_SHORT = {
    "attention_norm": "input_layernorm.weight",
    "wq": "self_attn.q_proj.weight",
    "wk": "self_attn.k_proj.weight",
    "wv": "self_attn.v_proj.weight",
    "wo": "self_attn.o_proj.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "w_gate": "mlp.gate_proj.weight",
    "w_up": "mlp.up_proj.weight",
    "w_down": "mlp.down_proj.weight",
    "bq": "self_attn.q_proj.bias",
    "bk": "self_attn.k_proj.bias",
    "bv": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
}


def layer_names(index: int) -> dict[str, str]:
    """Name in a safetensors file of every array of layer ``index``, by our name."""
    return {short: f"model.layers.{index}.{name}" for short, name in _SHORT.items()}


def load_folder(folder: Path, *, name: str | None = None) -> tuple[Model, HfTokenizer]:
    """Read ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of ``folder``.

    Weights may be in several files, which ``model.safetensors.index.json`` names. Where they are,
    ``generation_config.json`` names further marks that end a text, and ``tokenizer_config.json``
    says which marks are added to a prompt.

    Raises
    ------
    ModelFileError
        If a file is missing, truncated, of another format, or holds what we cannot run.
    """
    settings = read_json(folder / "config.json", "Model config")
    try:
        config = config_of(settings)
    except ValueError as error:
        raise ModelFileError(f"Model config {folder / 'config.json'}: {error}") from error
    bos_id, eos_ids = _read_marks(folder, settings)
    added = _added_marks(folder)
    model = _model(folder, config, name or folder.resolve().name)
    path = folder / "tokenizer.json"
    try:
        source = read_text(path, "Tokenizer file", _LARGEST_TOKENIZER).decode()
        tokenizer = HfTokenizer(
            source, vocab_size=config.vocab, bos_id=bos_id, eos_ids=eos_ids, added=added
        )
    except ModelFileError:
        raise
    except ValueError as error:
        message = " ".join(str(error).split())
        raise ModelFileError(f"Tokenizer file {path}: {message}") from error
    return model, tokenizer


def chat_template(folder: Path) -> str | None:
    """Return the template for chats of a folder, if it has one: a file, or a tokenizer's setting.

    Raises
    ------
    ModelFileError
        If it cannot be read.
    """
    path = folder / "chat_template.jinja"
    if path.exists():
        return read_text(path, "Template").decode(errors="replace")
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return None
    found = read_json(path, "Tokenizer config").get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def named_marks(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's marks by their names, as ``eos_token``, for templates.

    Raises
    ------
    ModelFileError
        If a file of them cannot be read.
    """
    found: dict[str, str] = {}
    settings = _tokenizer_settings(folder)
    for which in ("bos", "eos", "unk", "pad"):
        mark = settings.get(f"{which}_token")
        if isinstance(mark, dict):
            mark = mark.get("content")
        if isinstance(mark, str):
            found[f"{which}_token"] = mark
    return found


def _tokenizer_settings(folder: Path) -> Mapping[str, Any]:
    """Return what tokenizer_config.json says, and special_tokens_map.json where that does not."""
    found: Mapping[str, Any] = {}
    for name, words in (
        ("special_tokens_map.json", "Special tokens"),
        ("tokenizer_config.json", "Tokenizer config"),
    ):
        if (folder / name).exists():
            found = {**found, **read_json(folder / name, words)}
    return found


def _read_marks(folder: Path, settings: Mapping[str, Any]) -> tuple[int | None, list[int]]:
    """Return the mark at which a model begins to write, if it has one, and those at which it ends."""
    try:
        begins, ends = marks(settings, "bos_token_id"), marks(settings, "eos_token_id")
    except ValueError as error:
        raise ModelFileError(f"Model config {folder / 'config.json'}: {error}") from error
    path = folder / "generation_config.json"
    if path.exists():
        try:
            ends += marks(read_json(path, "Generation config"), "eos_token_id")
        except ModelFileError:
            raise
        except ValueError as error:
            raise ModelFileError(f"Generation config {path}: {error}") from error
    return begins[0] if begins else None, ends


def _added_marks(folder: Path) -> tuple[str | None, str | None] | None:
    """Return the marks that go before and behind every text, as transformers adds them.

    None if tokenizer_config.json leaves it to the post-processor of tokenizer.json.
    """
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return None
    settings = read_json(path, "Tokenizer config")
    if not {"add_bos_token", "add_eos_token"} & settings.keys():
        return None
    texts = named_marks(folder)

    def text(which: str) -> str | None:
        added = settings.get(f"add_{which}_token")
        if added not in (None, True, False):
            raise ModelFileError(
                f"Tokenizer config {path}: add_{which}_token must be true or false, not {added!r:.40}"
            )
        return texts.get(f"{which}_token") if added else None

    return text("bos"), text("eos")


def _model(folder: Path, config: ModelConfig, name: str) -> Model:
    # Before a table is made for each layer, as config.json may say anything.
    least = _SMALLEST * config.parameters

    def check(size: int) -> None:
        if size < least:
            raise ModelFileError(
                f"Model file {folder / WEIGHTS} must have at least {least} bytes for the "
                f"{config.parameters} weights of config.json, not {size} bytes"
            )

    arrays = open_arrays(folder, check)
    shapes = layer_shapes(config)
    names = [{short: layer_names(i)[short] for short in shapes} for i in range(config.layers)]
    expected: dict[str, tuple[int, ...]] = {
        EMBEDDING: (config.vocab, config.dim),
        FINAL_NORM: (config.dim,),
    }
    if not config.tied:
        expected[OUTPUT] = (config.vocab, config.dim)
    for each in names:
        expected |= {full: shapes[short] for short, full in each.items()}
    _check(folder, arrays, expected)

    def layer(each: Mapping[str, str]) -> Layer:
        found = {short: arrays.read(full) for short, full in each.items()}
        for short in found.keys() & set(ROTATED):
            found[short] = interleave(found[short], config.head_dim)
        return Layer(**found)

    embedding = arrays.read(EMBEDDING)
    if config.tied and OUTPUT in arrays.names:
        arrays.check(OUTPUT, expected[EMBEDDING])
        if not np.array_equal(arrays.read(OUTPUT), embedding):
            raise ModelFileError(
                f"Model file {arrays.where(OUTPUT)}: {OUTPUT} must equal the embedding that it is "
                f"tied to"
            )
    output: Floats | None = None if config.tied else arrays.read(OUTPUT)
    try:
        return Model(
            config=config,
            name=name,
            embedding=embedding,
            layers=tuple(map(layer, names)),
            final_norm=arrays.read(FINAL_NORM),
            unembedding=output,
        )
    except ValueError as error:
        raise ModelFileError(f"Model file {folder / WEIGHTS}: {error}") from error


def _check(folder: Path, arrays: Arrays, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that are missing, of another shape or type, or of another model."""
    names = {name for name in arrays.names if not name.endswith(_IGNORED)}
    for key in sorted(expected):
        if key not in names:
            raise ModelFileError(f"Model file {folder / WEIGHTS} must hold {key}, which is missing")
    unknown = sorted(names - expected.keys() - {OUTPUT})
    if unknown:
        raise ModelFileError(
            f"Model file {arrays.where(unknown[0])} must hold a model of config.json only, "
            f"not also {unknown[0]:.80}"
        )
    for key in sorted(expected):
        arrays.check(key, expected[key])
