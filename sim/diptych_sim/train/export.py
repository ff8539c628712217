# SPDX-License-Identifier: BSD-2-Clause
"""Writes a trained model in the usual formats, with the texts that judge and calibrate it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from diptych_sim.llm import hf
from diptych_sim.llm.model import ModelConfig, layer_shapes
from diptych_sim.llm.rotary import split_halves
from diptych_sim.train import vocabulary
from diptych_sim.train.corpus import Corpus

CALIBRATION_SIZE = 24_000
"""Characters of training text that are shipped for calibration, about."""


def write_weights(folder: Path, config: ModelConfig, state: Mapping[str, NDArray]) -> None:
    """Write ``model.safetensors``, float16, from the arrays of a training network by name."""
    arrays = {
        hf.EMBEDDING: state["embedding.weight"],
        hf.FINAL_NORM: state["final_norm.gain"],
    }
    for index in range(config.layers):
        names = hf.layer_names(index)
        for short, shape in layer_shapes(config).items():
            suffix = "gain" if short.endswith("norm") else "weight"
            array = np.asarray(state[f"blocks.{index}.{short}.{suffix}"], np.float32)
            if short in ("wq", "wk"):
                array = split_halves(array, config.head_dim)
            assert array.shape == shape
            arrays[names[short]] = array
    path = folder / "model.safetensors"
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array, np.float16) for name, array in arrays.items()},
        path,
        metadata={"format": "pt"},
    )
    path.chmod(0o644)  # safetensors lets only its owner read it


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.json`` and ``tokenizer_config.json``."""
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.dim,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": vocabulary.BOS_ID,
        "eos_token_id": vocabulary.EOS_ID,
        "torch_dtype": "float16",
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.BOS,
        "eos_token": vocabulary.EOS,
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
    }
    for name, content in (("config.json", settings), ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_texts(folder: Path, corpus: Corpus) -> None:
    """Write ``heldout.txt``, and ``calibration.txt`` from training chapters all over the book."""
    (folder / "heldout.txt").write_text("\n\n".join(corpus.held_out) + "\n", encoding="utf-8")
    mean = sum(map(len, corpus.training)) / len(corpus.training)
    count = round(CALIBRATION_SIZE / mean)
    chosen = [corpus.training[len(corpus.training) * i // count] for i in range(count)]
    (folder / "calibration.txt").write_text("\n\n".join(chosen) + "\n", encoding="utf-8")


def write_model(
    folder: Path,
    config: ModelConfig,
    state: Mapping[str, NDArray],
    tokenizer: Path,
    corpus: Corpus,
) -> None:
    """Write everything but the card into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, config, state)
    write_config(folder, config)
    write_texts(folder, corpus)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
