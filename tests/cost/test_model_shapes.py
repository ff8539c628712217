# SPDX-License-Identifier: BSD-2-Clause
"""Shapes of public models: numbers of weights as published, and refusals of other files."""

import json

import pytest

from diptych_sim.cost.models.load import load_shape, model_names, read_shape
from diptych_sim.cost.models.shape import FORMATS
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import load_model

PARAMETERS = {
    "codellama-34b": 33.74e9,
    "gpt-oss-120b": 116.83e9,
    "gpt-oss-20b": 20.91e9,
    "llama-2-13b": 13.02e9,
    "llama-2-70b": 68.98e9,
    "llama-2-7b": 6.74e9,
    "llama-3-70b": 70.55e9,
    "llama-3-8b": 8.03e9,
    "llama-3.1-405b": 405.85e9,
    "llama-3.1-70b": 70.55e9,
    "llama-3.1-8b": 8.03e9,
    "llama-3.2-1b": 1.236e9,
    "llama-3.2-3b": 3.213e9,
    "llama-3.3-70b": 70.55e9,
    "mistral-7b": 7.24e9,
    "mixtral-8x7b": 46.7e9,
    "qwen2-72b": 72.71e9,
    "qwen3-32b": 32.76e9,
    "qwen3-4b": 4.02e9,
    "qwen3-8b": 8.19e9,
    "smollm2-135m": 134.5e6,
}
"""As their model cards say."""
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "vocab_size": 512,
}


@pytest.mark.parametrize("name", model_names())
def test_models_have_the_published_number_of_weights(name):
    assert load_shape(name).parameters == pytest.approx(PARAMETERS[name], rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("Llama-2-7B", "llama-2-7b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("Llama3.1-8B", "llama-3.1-8b"),
        ("Qwen/Qwen3-4B", "qwen3-4b"),
        ("Llama 3.1 8B", "llama-3.1-8b"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
    ],
)
def test_models_by_the_names_of_their_makers(spec, name):
    assert load_shape(spec).name == name


def test_only_the_experts_of_a_token_are_used():
    shape = load_shape("gpt-oss-120b")
    assert shape.token_macs == pytest.approx(5.1e9, rel=0.01)  # "5.1B active parameters"
    assert shape.experts_used(1) == pytest.approx(4)
    assert 4 < shape.experts_used(2) < 8
    assert shape.experts_used(10_000) == pytest.approx(128)
    form = FORMATS["mxfp4"]
    assert shape.weight_bytes(form, 1) < shape.weight_bytes(form, 64) < shape.weight_bytes(form)


def test_windows_bound_what_layers_see():
    shape = load_shape("gpt-oss-120b")
    assert shape.seen(100) == 36 * 100
    assert shape.seen(1000) == 18 * 1000 + 18 * 128
    tokens = 1000
    each = sum(shape.attention_macs(position) for position in range(1, tokens + 1))
    assert shape.prefill_attention_macs(tokens) == pytest.approx(each, rel=2e-3)


def test_kv_cache_as_published():
    shape = load_shape("qwen3-8b")
    # 1,024 tokens are 146 MB or 151 MB: 144 KiB each.
    assert shape.kv_bytes(FORMATS["bf16"], 1024) == 1024 * 144 * 1024


def test_the_bundled_model_is_as_loaded():
    config = load_model("builtin").model.config
    shape = load_shape("builtin")
    assert (shape.dim, shape.layers, shape.heads, shape.kv_heads, shape.hidden, shape.vocab) == (
        config.dim,
        config.layers,
        config.heads,
        config.kv_heads,
        config.hidden,
        config.vocab,
    )


def test_a_config_by_path(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    shape = load_shape(str(tmp_path))
    assert shape == load_shape(str(tmp_path / "config.json"))
    assert (shape.kv_heads, shape.head_dim, shape.experts) == (8, 8, 1)


def test_a_folder_with_the_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama-2-7b").mkdir()
    (tmp_path / "llama-2-7b" / "config.json").write_text(json.dumps(SIZES))
    assert load_shape("llama-2-7b").layers == 32
    for spec in ("./llama-2-7b", str(tmp_path / "llama-2-7b")):
        assert load_shape(spec).layers == 5
    for spec in ("./llama-3-8b", "/nowhere/llama-3-8b"):
        with pytest.raises(ModelFileError, match=f"^Model must be one of .*, not '{spec}'$"):
            load_shape(spec)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"hidden_size": None},
            r"model width \(hidden_size\) must be from 1 to 16777216, not missing",
        ),
        ({"num_hidden_layers": -1}, r"number of layers \(num_hidden_layers\) .*, not -1"),
        ({"vocab_size": 2.5}, r"vocabulary size \(vocab_size\) .*, not 2.5"),
        ({"num_key_value_heads": 3}, "number of heads must be a multiple .* 3, not 8"),
        (
            {"num_local_experts": 4, "num_experts_per_tok": 5},
            "experts of a token must be at most 4, not 5",
        ),
        ({"sliding_window": 0}, r"window \(sliding_window\) must be at least 1, not 0"),
        ({"kv_lora_rank": 512}, "kv_lora_rank is of a kind of layer that is not modeled"),
        ({"mlp_only_layers": [0]}, "mlp_only_layers is of a kind of layer that is not modeled"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step must be 1, all layers alike, not 2"),
    ],
)
def test_refuses_other_shapes(changed, message):
    with pytest.raises(ModelFileError, match=f"^Here: {message}$"):
        read_shape(SIZES | changed, "x", "Here")


def test_lists_the_models_there_are(tmp_path):
    with pytest.raises(
        ModelFileError, match=r"^Model must be one of .*llama-3.1-8b.*, not 'gpt-5'$"
    ):
        load_shape("gpt-5")
    for spec in ("9" * 400, "a/" + "9" * 400, "", "a\0/b"):
        with pytest.raises(ModelFileError, match=r"^Model must be one of .*, not '"):
            load_shape(spec)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"^Model config .* must be JSON: "):
        load_shape(str(tmp_path))
