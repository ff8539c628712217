# SPDX-License-Identifier: BSD-2-Clause
"""Model files and tokenizers: what is read back, what is refused, and that no text is lost."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.evaluate import compare, windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import BUILTIN_FOLDER, load_model
from diptych_sim.llm.texts import held_out_text
from diptych_sim.llm.tokenizer import decode, to_utf8
from support.llama2c_file import DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB, write_llama2c


def test_a_llama2c_file_is_read(tmp_path):
    loaded = load_model(str(write_llama2c(tmp_path)))
    config = loaded.model.config
    assert (config.dim, config.hidden, config.layers) == (DIM, HIDDEN, LAYERS)
    assert (config.heads, config.kv_heads, config.vocab) == (HEADS, KV_HEADS, VOCAB)
    raw = np.frombuffer((tmp_path / "model.bin").read_bytes()[28:], "<f4")
    assert np.array_equal(loaded.model.embedding.reshape(-1), raw[: VOCAB * DIM])
    rest = raw[VOCAB * DIM :]
    assert np.array_equal(loaded.model.layers[1].attention_norm, rest[DIM : 2 * DIM])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_truncated_file_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("truncated")
    path = write_llama2c(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ModelFileError, match=r"^Model file .*(bytes|truncated)") as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=4000))
def test_a_foreign_file_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("foreign") / "model.bin"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"^Model file "):
        load_model(str(path))


@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=3000))
def test_a_foreign_tokenizer_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tokenizer")
    path = write_llama2c(folder)
    (folder / f"tok{VOCAB}.bin").write_bytes(data)
    with pytest.raises(ModelFileError, match=r"^Tokenizer file "):
        load_model(str(path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_damaged_folder_is_refused(tmp_path, name, damage):
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / file).write_bytes((BUILTIN_FOLDER / file).read_bytes())
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError) as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


texts = st.text() | st.sampled_from(["日本語", "🙂🙃", "\x00\x01\x7f", "naïve café", "\udcff lone"])


@settings(deadline=None, max_examples=200)
@given(text=texts)
def test_no_text_is_lost(text):
    for tokenizer in (load_model("builtin").tokenizer,):
        tokens = tokenizer.encode(text)
        assert tokens[0] == tokenizer.bos_id
        assert all(0 <= token < tokenizer.vocab_size for token in tokens)
        assert decode(tokenizer, tokens).lstrip(b" ") == to_utf8(text).lstrip(b" ")


@settings(deadline=None, max_examples=100)
@given(text=texts)
def test_what_llama2c_cannot_encode_falls_back_to_bytes(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    if not folder.exists():
        folder.mkdir()
        write_llama2c(folder)
    tokenizer = load_model(str(folder / "model.bin")).tokenizer
    tokens = tokenizer.encode(text)
    assert decode(tokenizer, tokens).lstrip(b" ") == to_utf8(text).lstrip(b" ")


def test_one_weight_changes_what_the_machine_computes(tmp_path):
    path = write_llama2c(tmp_path)
    before = GoldenModel(quantize_loaded(load_model(str(path)))).real_logits([1, 260, 261])
    data = bytearray(path.read_bytes())
    at = 28 + 4 * (VOCAB * DIM + LAYERS * DIM + 5)  # in wq of layer 0
    data[at : at + 4] = struct.pack("<f", 2.0)
    path.write_bytes(data)
    after = GoldenModel(quantize_loaded(load_model(str(path)))).real_logits([1, 260, 261])
    assert not np.array_equal(before, after)


def test_the_bundled_model_agrees_with_its_float_reference():
    loaded = load_model("builtin")
    golden = GoldenModel(quantize_loaded(loaded))

    def predict(tokens):
        golden.reset()
        return golden.real_logits(tokens)

    rows = windows(loaded.tokenizer, held_out_text(loaded), loaded.model.config.context, 3)
    found = compare(FloatReference(loaded.model).logits, predict, rows, loaded.tokenizer)
    assert found.agreement >= 0.96
    assert abs(found.degradation) <= 0.01
