# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of model in every format gives the logits of transformers, or is refused by name.

Mutations that were tried by hand, each seen to fail: rows of queries not put back into pairs, in
safetensors and in GGUF; gains of query norms left in halves; no biases; divisors of linear and
Llama 3.1 scalings left out; the embedding as the output of an untied model; BF16 read as F16.
"""

import json
import struct
from dataclasses import replace

import gguf
import numpy as np
import pytest

from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.quantize import quantize
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.gguf_file import tensor_floats
from diptych_sim.llm.gguf_header import read_header
from diptych_sim.llm.hf_config import config_of
from diptych_sim.llm.load import load_model
from diptych_sim.llm.tokenizer import decode
from support.llama2c_file import PIECES, tiny_llama2c, write_llama2c, write_tokenizer
from support.tiny_models import (
    KINDS,
    RECORDED,
    ROWS,
    TOKENS,
    coded,
    tiny_arrays,
    tiny_config,
    write_gguf,
    write_tiny,
)


def logits(path):
    return FloatReference(load_model(str(path)).model).logits(TOKENS)[-ROWS:]


def assert_recorded(found, kind):
    with np.load(RECORDED) as file:
        expected = file[kind]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_logits_of_transformers(tmp_path, kind):
    assert_recorded(logits(write_tiny(tmp_path, kind)), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_file_gives_the_logits_of_transformers(tmp_path, kind):
    path = write_gguf(tmp_path / "model.gguf", kind)
    assert_recorded(logits(path), kind)
    loaded, folder = load_model(str(path)), load_model(str(write_tiny(tmp_path / "f", kind)))
    for text in ("the thin thing", "caf\u00e9", "<bos>"):
        assert loaded.tokenizer.encode(text) == folder.tokenizer.encode(text)
    assert loaded.tokenizer.stop_ids == folder.tokenizer.stop_ids


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_types_and_shards_are_read(tmp_path, dtype, shards):
    found = load_model(str(write_tiny(tmp_path, "qwen2", dtype=dtype, shards=shards))).model
    raw = tiny_arrays(tiny_config("qwen2"))
    for array, name in (
        (found.layers[1].w_down, "model.layers.1.mlp.down_proj.weight"),
        (found.layers[0].bv, "model.layers.0.self_attn.v_proj.bias"),
        (found.embedding, "model.embed_tokens.weight"),
    ):
        data = coded(raw[name], dtype)
        if dtype == "BF16":
            expected = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            expected = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype("<f4")
        assert array is not None
        assert np.array_equal(array.reshape(-1), expected)


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_blocks_of_a_gguf_file_become_floats(tmp_path, name):
    kind = gguf.GGMLQuantizationType[name]
    found = load_model(str(write_gguf(tmp_path / "m.gguf", "llama", quantized=kind))).model
    raw = tiny_arrays(tiny_config("llama"))["model.layers.1.mlp.gate_proj.weight"]
    expected = gguf.quants.dequantize(gguf.quants.quantize(raw, kind), kind)
    assert np.array_equal(found.layers[1].w_gate, expected)


def has_floats(kind):
    """Return whether the library makes floats of blocks of a type."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        return False
    return block > 1


BLOCKS = [kind for kind in gguf.GGML_QUANT_SIZES if has_floats(kind)]


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_every_type_that_the_library_dequantizes_is_read(tmp_path, kind):
    """Of any blocks: the tiny models' rows are too short for those of 256 values."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(int(kind)).integers(0, 60, (5, 2 * size), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("x.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "m.gguf")
    found = tensor_floats("x.weight", np.memmap(tmp_path / "m.gguf", np.uint8, "r"), header)
    assert found.shape == (5, 2 * block)
    assert np.array_equal(found, gguf.quants.dequantize(raw, kind), equal_nan=True)


def test_a_type_without_floats_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    arrays = {"token_embd.weight": np.zeros((264, 32), np.int16)}
    write_gguf(path, "llama", arrays=arrays)
    with pytest.raises(
        ModelFileError, match=r"Type of token_embd.weight must be one with floats, "
    ):
        load_model(str(path))


@pytest.mark.parametrize(
    ("keys", "divisor"),
    [
        ({"llama.rope.scaling.factor": 4.0}, 4.0),
        ({"llama.rope.scale_linear": 4.0}, 4.0),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scale_linear": 4.0}, 4.0),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, 1.0),
        ({"llama.rope.scaling.factor": 0.0}, 1.0),
    ],
)
def test_a_factor_of_a_gguf_file_is_linear_as_of_llama_cpp(tmp_path, keys, divisor):
    config = load_model(str(write_gguf(tmp_path / "m.gguf", "llama", **keys))).model.config
    assert config.rope_divisors == (() if divisor == 1 else (divisor,) * 4)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("kind", ["llama", "llama untied"])
def test_a_llama2c_file_gives_the_logits_of_transformers(tmp_path, kind, version):
    settings = tiny_config(kind)
    path = tmp_path / "model.bin"
    tiny_llama2c(path, tiny_arrays(settings), config_of(settings), version)
    write_tokenizer(tmp_path / "tokenizer.bin", settings["vocab_size"])
    if version < 2:
        assert_recorded(logits(path), kind)
        return
    found = load_model(str(path)).model
    raw = tiny_arrays(settings)
    for array, name in (
        (found.layers[1].w_down, "model.layers.1.mlp.down_proj.weight"),
        (found.layers[0].wv, "model.layers.0.self_attn.v_proj.weight"),
        (found.output, "model.embed_tokens.weight" if found.config.tied else "lm_head.weight"),
    ):
        groups = raw[name].reshape(-1, 16)
        most = np.abs(groups).max(1, keepdims=True) / 254 * 1.001
        assert np.all(np.abs(array.reshape(-1, 16) - groups) <= most)
    assert np.array_equal(
        found.layers[1].mlp_norm, raw["model.layers.1.post_attention_layernorm.weight"]
    )


TEXTS = ["a b", " ab", "caf\u00e9", "<s>", "ab\nab", "\U0001f600"]


def test_sentence_pieces_of_a_gguf_file_are_those_of_llama2c(tmp_path):
    expected = load_model(str(write_llama2c(tmp_path))).tokenizer
    config = tiny_config("llama")
    pieces = [*PIECES, b"ab", b" a"]
    assert len(pieces) <= config["vocab_size"]
    path = write_gguf(tmp_path / "m.gguf", "llama", pieces=pieces)
    tokenizer = load_model(str(path)).tokenizer
    assert (tokenizer.prefix, tokenizer.stop_ids) == ([1], {1, 2})
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        assert decode(tokenizer, tokens) == text.encode()
        if "a" not in text:
            assert tokens == expected.encode(text)
    assert tokenizer.encode("bab") == [1, 259, 261, 262]
    assert tokenizer.mark_texts == {"\n<s>\n": 1, "\n</s>\n": 2}
    assert tokenizer.encode_marked("\n<s>\nb") == [1, 261]


@pytest.mark.parametrize("ahead", [True, False])
def test_sentence_pieces_may_have_marks_and_texts_that_are_not_split(tmp_path, ahead):
    """As of Mistral, ahead of the bytes, or behind words, where other makers add theirs."""
    more, kinds = [b"[INST]", b"<|user|>", b"a b"], [3, 4, 4]
    start, bytes_and_words, rest = PIECES[:3], PIECES[3:259], [b" ", b"a"]
    if ahead:
        pieces = [*start, *more, *bytes_and_words, *rest]
        types = [2, 3, 3, *kinds, *[6] * 256, 1, 1]
        mark, user, pair, byte, word = 3, 4, 5, 6, 262
    else:
        pieces = [*start, *bytes_and_words, *rest, *more]
        types = [2, 3, 3, *[6] * 256, 1, 1, *kinds]
        mark, user, pair, byte, word = 261, 262, 263, 3, 259
    path = write_gguf(tmp_path / "m.gguf", "llama", pieces=pieces, types=types)
    tokenizer = load_model(str(path)).tokenizer
    space, a = word, word + 1
    for text, tokens in (
        ("a", [space, a]),
        ("\x01<|user|>a", [space, byte + 1, user, a]),
        ("aa b", [space, a, pair]),
        ("[INST]", [space, *(byte + n for n in b"[INST]")]),
    ):
        assert tokenizer.encode(text) == [1, *tokens]
        assert decode(tokenizer, [1, *tokens]) == text.encode()
    assert tokenizer.encode_marked("[INST]a<|user|>") == [mark, a, user]


def test_formats_of_one_model_have_the_same_integers(tmp_path):
    """And so the same tokens on the panels, which equal the golden model's."""
    paths = [write_tiny(tmp_path / "f", "llama"), write_gguf(tmp_path / "m.gguf", "llama")]
    settings = tiny_config("llama")
    paths.append(tmp_path / "model.bin")
    tiny_llama2c(paths[-1], tiny_arrays(settings), config_of(settings), 0)
    write_tokenizer(tmp_path / "tokenizer.bin", settings["vocab_size"])
    found = []
    for path in paths:
        model = load_model(str(path)).model
        steps = FloatReference(model).activations([TOKENS, TOKENS[::-1]])
        quantized = replace(quantize(model, steps), name="model")
        found.append(quantized.to_bytes())
    assert found[0] == found[1] == found[2]


REFUSED = [
    ({"model_type": "gemma"}, r"Architecture \(model_type\) must be one of llama, .*'gemma'"),
    ({"architectures": ["X"]}, r"Architecture must be LlamaForCausalLM, not \['X'\]"),
    ({"hidden_act": "gelu"}, r"Activation \(hidden_act\) must be 'silu', not 'gelu'"),
    ({"attention_bias": True}, r"Attention bias \(attention_bias\) must be False, not True"),
    ({"mlp_bias": True}, r"Bias of the gated network \(mlp_bias\) must be False, not True"),
    ({"quantization_config": {}}, r"Quantization \(quantization_config\) must be None, not {}"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, r".*must be of rope_type .* 'yarn'"),
    ({"rope_scaling": {"type": "linear"}}, r"factor must be a number, not None"),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, r"factor of rope_scaling must be greater"),
    ({"rope_scaling": {"type": "linear", "factor": 2, "x": 1}}, r".*must be linear, without x: 1"),
    (
        {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"type": "default"}},
        r"Rotary positions \(rope_scaling, rope_parameters\) must be the same",
    ),
    (
        {"model_type": "mistral", "architectures": None, "sliding_window": 63},
        r"Window of attention \(sliding_window\) must be at least the context of 64, not 63",
    ),
    ({"layer_types": ["sliding_attention"] * 2}, r"Kinds of layers .* must be 'full_attention'"),
    (
        {"model_type": "mistral", "architectures": None, "max_position_embeddings": 4097},
        r"Window of attention \(sliding_window\) must be at least the context of 4097, not 4096",
    ),
    (
        {
            "model_type": "mistral",
            "architectures": None,
            "sliding_window": 63,
            "use_sliding_window": False,
        },
        r"Window of attention \(sliding_window\) must be at least the context of 64, not 63",
    ),
    ({"num_hidden_layers": 4097}, r"Number of layers must be at most 4096, not 4097"),
    ({"head_dim": 7}, r"Head width must be even"),
    ({"vocab_size": 10**6}, None),
    ({"vocab_size": 2**20 + 1}, r"Vocabulary size must be at most 1048576, not 1048577"),
    ({"num_hidden_layers": 4096}, None),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_we_cannot_run_is_refused(tmp_path, settings, message):
    write_tiny(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | settings))
    where = r"Model config .*config\.json: " if message else r"Model file .* must have at least .*"
    with pytest.raises(ModelFileError, match=f"^{where}{message or ''}") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


GGUF_REFUSED = [
    ({"general.architecture": "gemma"}, r"Architecture \(general\.architecture\) .* 'gemma'"),
    ({"llama.expert_count": 8}, r"Experts \(llama\.expert_count\) must be 0, not 8"),
    ({"llama.rope.scaling.type": "yarn"}, r"Rotary positions .* none or linear, not 'yarn'"),
    ({"llama.rope.dimension_count": 4}, r"Rotary part of a head .* must be all of it, 8, not 4"),
    ({"llama.attention.sliding_window": 9}, r"Window of attention .* of 64, not 9"),
    ({"split.count": 3}, r"Files \(split\.count\) must be 1, not 3"),
    ({"tokenizer.ggml.model": "bert"}, r"Tokenizer .* must be gpt2 or llama, not 'bert'"),
    ({"tokenizer.ggml.pre": "x"}, r"Tokenizer \(tokenizer\.ggml\.pre\) must be one of .*'x'"),
    ({"tokenizer.ggml.eos_token_id": 999}, r"Mark .*eos_token_id\) must be in range"),
    ({"llama.block_count": 3}, r"Tensors must include blk\.2\.\w+\.weight, which is missing"),
    ({"llama.embedding_length": 64}, r"Shape of token_embd\.weight must be \(.*64\), not"),
]


@pytest.mark.parametrize(("keys", "message"), GGUF_REFUSED)
def test_what_we_cannot_run_of_a_gguf_file_is_refused(tmp_path, keys, message):
    path = write_gguf(tmp_path / "m.gguf", "llama")
    path = rewritten(path, keys)
    with pytest.raises(ModelFileError, match=f"^Model file .*m.gguf: {message}") as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)


def rewritten(path, keys):
    """Put keys of texts and numbers into a file, ahead of which come those that they replace."""
    data = path.read_bytes()
    count = struct.unpack_from("<Q", data, 16)[0]
    more = b""
    for key, value in keys.items():
        name = struct.pack("<Q", len(key)) + key.encode()
        at = data.find(name)
        if at >= 0:  # another name, in place of it
            data = data[:at] + name[:-1] + b"?" + data[at + len(name) :]
        if isinstance(value, str):
            more += name + struct.pack("<IQ", 8, len(value)) + value.encode()
        else:
            more += name + struct.pack("<II", 4, value)
        count += 1
    more += struct.pack("<QcIIQ", 1, b"!", 9, 0, padding := -(len(more) + 25) % 32) + bytes(padding)
    path.write_bytes(data[:16] + struct.pack("<Q", count + 1) + data[24:24] + more + data[24:])
    return path
