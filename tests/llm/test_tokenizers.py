# SPDX-License-Identifier: BSD-2-Clause
"""Marks are added as the files say, end a text wherever they stand, and are text in a prompt.

Mutations that were tried by hand, each seen to fail: the post-processor, or tokenizer_config.json,
not asked; the first EOS only; no byte fallback; a word of the vocabulary that is a mark kept.
"""

import pytest

from diptych_sim.golden.evaluate import windows
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import load_model
from diptych_sim.llm.tokenizer import TextError, decode
from support.hf_folder import byte_level, sentence_pieces, write_folder

MARKS = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}}
T, E = 2 + ord("t") - 33, 2 + ord("e") - 33
THE = [258, E]


@pytest.mark.parametrize(
    ("processor", "settings", "expected"),
    [
        (True, None, [0, *THE]),
        (False, None, THE),
        (True, MARKS, [0, *THE]),
        (False, MARKS, THE),
        (True, {**MARKS, "add_bos_token": False}, THE),
        (False, {**MARKS, "add_bos_token": True}, [0, *THE]),
        (False, {**MARKS, "add_bos_token": True, "add_eos_token": True}, [0, *THE, 1]),
        (True, {**MARKS, "add_eos_token": True}, [*THE, 1]),
        (True, {"add_bos_token": True}, THE),
        (True, {**MARKS, "add_bos_token": None}, THE),
    ],
)
def test_marks_are_added_as_transformers_adds_them(tmp_path, processor, settings, expected):
    files = {} if settings is None else {"tokenizer_config": settings}
    model = write_folder(tmp_path, tokenizer=byte_level(bos=processor), **files)
    tokenizer = load_model(model).tokenizer
    assert tokenizer.encode("the") == expected
    assert tokenizer.encode("the", bos=False) == THE
    rows = windows(tokenizer, "the" * 100, 64)
    assert all((row[0] == 0) == (expected[0] == 0) and 2 <= len(row) <= 64 for row in rows)


@pytest.mark.parametrize(
    ("config", "generation", "stops"),
    [
        (1, None, {0, 1}),
        ([1, 5, 79], None, {0, 1, 5, 79}),
        (1, [1, 79], {0, 1, 79}),
        ([5], 79, {0, 5, 79}),
        (None, 79, {0, 79}),
    ],
)
def test_every_mark_of_both_files_ends_a_text(tmp_path, config, generation, stops):
    files = {} if generation is None else {"generation_config": {"eos_token_id": generation}}
    model = write_folder(tmp_path, config={"eos_token_id": config}, **files)
    assert load_model(model).tokenizer.stop_ids == stops


@pytest.mark.parametrize("generation", [None, [3, 79]])
def test_a_model_may_have_no_marks_in_its_config(tmp_path, generation):
    """As of transformers for Qwen: a text ends as generation_config.json says, or not at all."""
    files = {} if generation is None else {"generation_config": {"eos_token_id": generation}}
    none = {"bos_token_id": None, "eos_token_id": None}
    tokenizer = load_model(write_folder(tmp_path, config=none, **files)).tokenizer
    assert tokenizer.stop_ids == frozenset(generation or ())
    assert tokenizer.bos_id == (3 if generation else 0)


@pytest.mark.parametrize("value", [True, "1", [1, "2"], 9999, -1, [1] * 129])
def test_a_mark_that_is_no_token_is_refused(tmp_path, value):
    model = write_folder(tmp_path, generation_config={"eos_token_id": value})
    allowed = r"(a whole number|in range\(259\)|at most 128 numbers)"
    with pytest.raises(ModelFileError, match=rf"must be {allowed}, not"):
        load_model(model)


TEXTS = [
    "<s>",
    "</s>",
    "a<s>b",
    "the <unk> </s>",
    "caf\u00e9 5",
    " a",
    "\u4f60<s>\U0001f600",
    "<0x41>",
]


@pytest.mark.parametrize(
    ("kind", "unknown"), [("BPE", True), ("BPE", False), ("Unigram", True)], ids=str
)
@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_is_lost_or_becomes_a_mark(tmp_path, kind, unknown, fallback, text):
    model = write_folder(
        tmp_path,
        tokenizer=sentence_pieces(kind, fallback=fallback, unknown=unknown),
        config={"bos_token_id": 1, "eos_token_id": 2},
    )
    tokenizer = load_model(model).tokenizer
    tokens = tokenizer.encode(text)
    assert {0, 1, 2}.isdisjoint(tokens)
    assert decode(tokenizer, tokens).lstrip() == text.encode().lstrip()


@pytest.mark.parametrize("model", [{}, {"ignore_merges": True}])
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["<eos>", "a <bos>", "th<eos>th"])
def test_marks_of_byte_level_vocabularies_are_text(tmp_path, model, special, text):
    tokenizer = byte_level(bos=True, **model)
    tokenizer["added_tokens"][1]["special"] = special
    loaded = load_model(write_folder(tmp_path, tokenizer=tokenizer)).tokenizer
    tokens = loaded.encode(text)
    assert tokens[0] == 0
    assert {0, 1}.isdisjoint(tokens[1:])
    assert decode(loaded, tokens) == text.encode()


def test_a_byte_level_vocabulary_without_rare_bytes_is_read(tmp_path):
    tokenizer = byte_level(without=bytes([0x04, 0xC0, 0xF0, 0xFF]))
    loaded = load_model(write_folder(tmp_path, tokenizer=tokenizer)).tokenizer
    assert decode(loaded, loaded.encode("the caf\u00e9")) == "the caf\u00e9".encode()
    for text, byte in (("a\x04", "04"), ("\U0001f600", "F0"), ("\udcff", "FF")):
        with pytest.raises(TextError, match=rf"^Text must have bytes .* not 0x{byte}$"):
            loaded.encode(text)


ROPE = "rope_parameters", "rope_scaling"


@pytest.mark.parametrize("key", ROPE)
@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"type": "dynamic", "factor": 4.0}, r"of type 'default', .*, not 'dynamic'"),
        ({"rope_type": "yarn"}, r"of rope_type 'default', 'linear', 'llama3', not 'yarn'"),
        ({"rope_type": "default", "type": "yarn"}, r"of one kind, not 'default' and 'yarn'"),
        ({"rope_type": None}, r"of rope_type 'default', .*, not None"),
        ({"factor": 2.0}, r"default, without factor: 2.0"),
        ({"full_attention": {"rope_type": "default"}}, r"default, without full_attention: .*"),
        ({"partial_rotary_factor": 0.5}, r"must be 1, not 0.5"),
        ([], r"an object, not \[\]"),
        ("linear", r"an object, not 'linear'"),
    ],
)
def test_rotary_positions_that_are_not_plain_are_refused(tmp_path, key, rope, message):
    with pytest.raises(ModelFileError, match=rf"^Model config .*Rotary .*{message}$"):
        load_model(write_folder(tmp_path, config={key: rope}))


@pytest.mark.parametrize(
    ("settings", "theta"),
    [
        ({}, 10000.0),
        ({"rope_theta": 500}, 500.0),
        ({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, 500.0),
        ({"rope_scaling": {"rope_theta": 500.0, "type": "default"}}, 500.0),
        ({"rope_scaling": None, "rope_parameters": {}, "rope_theta": 500.0}, 500.0),
        ({"rope_theta": 500.0, "rope_parameters": {"rope_theta": 500}}, 500.0),
    ],
)
def test_the_rotary_base_is_found_in_each_place(tmp_path, settings, theta):
    assert load_model(write_folder(tmp_path, config=settings)).model.config.rope_theta == theta


@pytest.mark.parametrize("key", ROPE)
def test_contradictory_rotary_bases_are_refused(tmp_path, key):
    model = write_folder(tmp_path, config={"rope_theta": 1e4, key: {"rope_theta": 5e5}})
    with pytest.raises(ModelFileError, match=r"must be the same .* 10000.0 .* 500000.0 "):
        load_model(model)
