# SPDX-License-Identifier: BSD-2-Clause
"""Chats by a model's own template, which may be anybody's program.

Mutations that were tried by hand, each seen to fail: marks of a template encoded as text; no check
of marks in a prompt; no bounds of time and memory; BOS added ahead of a template that has it; a
system part that is dropped, or quoted, taken for the other; no ``tools``, no block of generation.
"""

import json
import re
import time

import pytest

from diptych_sim.llm.chat import ChatError, chat_prompt
from diptych_sim.llm.load import load_model
from support.command import command
from support.hf_folder import byte_level, write_folder
from support.tiny_models import write_gguf

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def folder(path, **settings):
    return write_folder(path, tokenizer=byte_level(bos=True), tokenizer_config=settings)


def test_marks_of_a_template_are_marks(tmp_path):
    loaded = load_model(folder(tmp_path, chat_template=TEMPLATE))
    tokenizer = loaded.tokenizer

    def plain(text):
        return tokenizer.encode(text, bos=False)

    found = chat_prompt(tokenizer, loaded.chat_template, " the thin ")
    assert found == [0, *plain("user: the thin"), 1, *plain("assistant:")]
    found = chat_prompt(tokenizer, loaded.chat_template, "x", "be kind")
    assert found == [
        *(0, *plain("system: be kind"), 1),
        *(*plain("user: x"), 1, *plain("assistant:")),
    ]


@pytest.mark.parametrize("where", ["file", "list", "gguf"])
def test_templates_are_found(tmp_path, where):
    if where == "gguf":
        model = write_gguf(tmp_path / "m.gguf", "llama", **{"tokenizer.chat_template": TEMPLATE})
    elif where == "list":
        named = [{"name": "x", "template": "y"}, {"name": "default", "template": TEMPLATE}]
        model = folder(tmp_path, chat_template=named)
    else:
        model = folder(tmp_path)
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert load_model(str(model)).chat_template == TEMPLATE


TOOLS = "{% if tools is not none or documents is not none %}tools{% endif %}"
NESTED = "{% set a = 1 %}{% generation %}{{ a }}x{% set a = 2 %}{% endgeneration %}{{ a }}"
SORTED = "{{ {'b': '\u00e9', 'a': [1]} | tojson(indent=1, sort_keys=true) }}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (TOOLS + "y", "y"),
        (NESTED, "1x1"),
        (SORTED, '{\n "a": [\n  1\n ],\n "b": "\u00e9"\n}'),
        ("{{ {'a': 'b'} | tojson }}", '{"a": "b"}'),
        ("{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}", "1"),
    ],
)
def test_templates_have_what_transformers_gives_them(tmp_path, template, text):
    tokenizer = load_model(folder(tmp_path)).tokenizer
    assert chat_prompt(tokenizer, template, "x") == tokenizer.encode(text, bos=False)


def test_marks_of_a_template_are_those_that_the_tokenizer_names(tmp_path):
    """Of several tokens that end a text."""
    settings = {"eos_token": {"content": "<eos>"}, "unk_token": "th"}
    model = write_folder(
        tmp_path,
        config={"eos_token_id": [79, 1], "bos_token_id": None},
        tokenizer=byte_level(bos=True),
        tokenizer_config=settings,
    )
    loaded = load_model(model)
    template = "{{ unk_token }}{{ bos_token }}{{ eos_token }}"
    found = chat_prompt(loaded.tokenizer, template, "x", marks=loaded.named_marks)
    assert found == [258, 1]


@pytest.mark.parametrize(
    "template",
    ["{{ messages[-1].content }}", "{{ messages | selectattr('role', 'eq', 'user') | first }}"],
)
def test_a_system_part_that_a_template_drops_is_refused(tmp_path, template):
    tokenizer = load_model(folder(tmp_path)).tokenizer
    with pytest.raises(
        ChatError, match=r"^System part \(--system\) must be left out: the model's "
    ):
        chat_prompt(tokenizer, template, "x", "be kind")
    assert chat_prompt(tokenizer, template, "x", " ") == chat_prompt(tokenizer, template, "x")
    quoted = "{{ messages[0].content | tojson }}"
    assert chat_prompt(tokenizer, quoted, "x", 'a"') == tokenizer.encode('"a\\""', bos=False)


def test_a_mark_in_a_prompt_is_refused(tmp_path):
    loaded = load_model(folder(tmp_path, chat_template=TEMPLATE))
    for texts, words in ((("a<eos>b",), "Prompt"), (("a", "<bos>"), "System part")):
        with pytest.raises(ChatError, match=rf"^{words} .* must be without the mark '<\w+>'"):
            chat_prompt(loaded.tokenizer, loaded.chat_template, *texts)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "Model must bring a template for chats"),
        ("{% x %}", "must work, not fail: TemplateSyntaxError"),
        ("{{ raise_exception('no system') }}", "must work, not fail: ValueError: no system"),
        ("{{ ''.__class__.__mro__ }}", "must work, not fail: SecurityError"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "2 s"),
        ("{{ 'a' * 10**10 }}", "must end within 2 s and 512 MB"),
        ("{{ 'a' * 10**7 }}", "must have at most 1048576 characters"),
    ],
)
def test_a_template_that_does_not_work_is_refused(tmp_path, template, message):
    tokenizer = load_model(folder(tmp_path)).tokenizer
    start = time.monotonic()
    with pytest.raises(ChatError, match=message) as caught:
        chat_prompt(tokenizer, template, "x")
    assert str(caught.value).isprintable()
    assert time.monotonic() - start < 8  # a bound of 5 s, on a busy machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chat"], "Model must bring a template for chats to be used with --chat"),
        (["--system", "x"], r"System part \(--system\) must be used with --chat"),
    ],
)
def test_chats_that_cannot_be_are_refused(capsys, monkeypatch, tmp_path, arguments, message):
    model = folder(tmp_path)
    status, out, err = command(capsys, monkeypatch, "generate", "--model", model, *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err


def test_the_mark_that_ends_a_text_is_not_shown(tmp_path):
    from diptych_sim.command.prompts import text_of

    tokenizer = load_model(folder(tmp_path)).tokenizer
    assert json.dumps(text_of(tokenizer, [5], [70, 71, 1, 72], {1})) == '"ef"'
    assert json.dumps(text_of(tokenizer, [5], [70, 71, 1, 72], ())) == '"efg"'
