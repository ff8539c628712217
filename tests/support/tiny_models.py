# SPDX-License-Identifier: BSD-2-Clause
"""Tiny models of random weights, one of each kind that is read, in each format.

As a program it records what transformers computes of them, in ``tiny_logits.npz`` beside it::

    pip install torch transformers
    PYTHONPATH=sim:rtl:tests python tests/support/tiny_models.py
"""

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.llm.gguf_file import layer_names as gguf_names
from diptych_sim.llm.hf import layer_names
from diptych_sim.llm.hf_config import config_of
from diptych_sim.llm.model import ModelConfig, layer_shapes
from support.hf_folder import byte_level

__all__ = ["KINDS", "RECORDED", "TOKENS", "tiny_arrays", "tiny_config", "write_tiny"]

RECORDED = Path(__file__).with_name("tiny_logits.npz")
TOKENS = [0, *range(70, 110)]
ROWS = 3
"""Rows of logits, the last ones, that are recorded."""
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama untied": {"model_type": "llama", "tie_word_embeddings": False},
    "llama one kv head": {"model_type": "llama", "num_key_value_heads": 1},
    "llama wide heads": {"model_type": "llama", "head_dim": 16, "rope_theta": 500.0},
    "llama linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama 3.1": {"model_type": "llama", "rope_theta": 500.0, "rope_scaling": LLAMA3},
    "mistral": {"model_type": "mistral", "sliding_window": 64, "head_dim": 8},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": False},
}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def tiny_config(kind: str) -> dict[str, Any]:
    """Return the config.json of a kind."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 264,  # more than tokens have texts
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **KINDS[kind],
    }
    return {"architectures": [_ARCHITECTURES[settings["model_type"]]], **settings}


def tiny_arrays(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights of a kind by their names in safetensors files."""
    config = config_of(settings)
    rng = np.random.default_rng(7)
    arrays = {"model.embed_tokens.weight": rng.normal(0, 0.5, (config.vocab, config.dim))}
    for index in range(config.layers):
        names = layer_names(index)
        for short, shape in layer_shapes(config).items():
            middle = 1.0 if "norm" in short else 0.0
            arrays[names[short]] = middle + rng.normal(0, 0.3, shape)
    arrays["model.norm.weight"] = 1 + rng.normal(0, 0.3, config.dim)
    if not config.tied:
        arrays["lm_head.weight"] = rng.normal(0, 0.5, (config.vocab, config.dim))
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_tiny(folder: Path, kind: str, *, dtype: str = "F32", shards: int = 1) -> Path:
    """Write a folder of a kind, and return it; weights of 16 bits lose their last ones."""
    settings = tiny_config(kind)
    arrays = tiny_arrays(settings)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps(byte_level(bos=True)))
    names = sorted(arrays)
    files = {name: f"model-{at % shards}.safetensors" for at, name in enumerate(names)}
    if shards == 1:
        files = dict.fromkeys(names, "model.safetensors")
    else:
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    for file in sorted(set(files.values())):
        part = {name: arrays[name] for name in names if files[name] == file}
        (folder / file).write_bytes(safetensors(part, dtype))
    return folder


def safetensors(arrays: dict[str, np.ndarray], dtype: str = "F32") -> bytes:
    """Return the content of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        part = coded(array, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def coded(array: np.ndarray, dtype: str) -> bytes:
    """Return numbers of a type as bytes."""
    if dtype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def write_gguf(
    path: Path,
    kind: str,
    *,
    quantized: Any = None,
    pieces: Any = None,
    types: Any = None,
    arrays: Any = None,
    **more: Any,
) -> Path:
    """Write a GGUF file of a kind by the ``gguf`` library, as llama.cpp's converter does.

    ``quantized`` is a type of the library for matrices; ``pieces`` are those of SentencePiece, in
    place of byte-level BPE, and ``types`` are theirs; ``arrays`` stand in the place of those of their names; ``more`` are
    further keys.
    """
    import gguf

    settings = tiny_config(kind)
    config = config_of(settings)
    name = "llama" if settings["model_type"] == "mistral" else str(settings["model_type"])
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    if config.head_width is not None:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    scaling = settings.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif scaling:
        divisors = np.array(config.rope_divisors, np.float32)
        writer.add_tensor("rope_freqs.weight", divisors)
    if pieces is not None:
        _add_pieces(writer, pieces, types)
    else:
        _add_byte_level(writer)
    for key, value in more.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for full, array in (_gguf_arrays(settings, config) | (arrays or {})).items():
        if quantized is not None and array.ndim == 2 and array.shape[-1] % 32 == 0:
            writer.add_tensor(full, gguf.quants.quantize(array, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(full, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_pieces(writer: Any, pieces: list[bytes], types: list[int] | None) -> None:
    """Add the vocabulary of llama2.c's tokenizer: marks first, then bytes, then words."""
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.decode().replace(" ", "\u2581") for piece in pieces])
    writer.add_token_scores([-float(number) for number in range(len(pieces))])
    writer.add_token_types(types or [2, 3, 3, *[6] * 256, *[1] * (len(pieces) - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_byte_level(writer: Any) -> None:
    vocabulary = byte_level()["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocabulary["vocab"]))
    writer.add_token_types([3, 3, *[1] * (len(vocabulary["vocab"]) - 2)])
    writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)


def _gguf_arrays(settings: dict[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    arrays = tiny_arrays(settings)
    outside = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    found = {full: arrays[name] for name, full in outside.items() if name in arrays}
    paired = settings["model_type"] in ("llama", "mistral")
    for index in range(config.layers):
        for short, name in layer_names(index).items():
            if name not in arrays:
                continue
            array = arrays[name]
            if paired and short in ("wq", "wk"):
                # As convert_hf_to_gguf.py permutes them.
                d = config.head_dim
                array = array.reshape(-1, 2, d // 2, config.dim).swapaxes(1, 2)
                array = np.ascontiguousarray(array).reshape(-1, config.dim)
            found[gguf_names(index)[short]] = array
    return found


def _record() -> None:
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM  # pyright: ignore[reportMissingImports]

    found = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            write_tiny(Path(folder), kind)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
            logits = model(torch.tensor([TOKENS])).logits[0, -ROWS:].detach().numpy()
        found[kind] = logits.astype(np.float32)
    np.savez_compressed(RECORDED, **found)


if __name__ == "__main__":
    _record()
