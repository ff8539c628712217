# SPDX-License-Identifier: BSD-2-Clause
"""Prompts in the form of a chat, by the template that a model brings.

A template is a program that somebody else wrote: it runs in Jinja's sandbox, in a process of its
own with bounds of time and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from diptych_sim.llm.tokenizer import Tokenizer

__all__ = ["ChatError", "chat_prompt"]

_SECONDS, _PATIENCE = 2, 30
"""Of the processor that a template may take; and of a clock, where others keep it from that."""
_BYTES = 2**29
_LONGEST = 2**20
"""Characters of a prompt at most."""


class ChatError(ValueError):
    """A prompt that cannot be made a chat; the message is one line that says why."""


def chat_prompt(
    tokenizer: Tokenizer,
    template: str | None,
    text: str,
    system: str | None = None,
    *,
    marks: Mapping[str, str] | None = None,
) -> list[int]:
    """Return the tokens of a chat in which a user says ``text``.

    ``marks`` are texts that a template may use by name, as ``eos_token``; without them those of the
    tokenizer.

    Raises
    ------
    ChatError
        If there is no template, it does not work, or knows no system part that is given, or a text
        has a mark of the model written out.
    """
    if template is None:
        raise ChatError("Model must bring a template for chats to be used with --chat")
    for words, said in (("Prompt (--prompt)", text), ("System part (--system)", system or "")):
        for mark in tokenizer.mark_texts:
            if mark in said:
                raise ChatError(f"{words} must be without the mark {mark!r} in a chat")
    user = {"role": "user", "content": text}
    names = {number: mark for mark, number in tokenizer.mark_texts.items()}
    ends = sorted(tokenizer.stop_ids - {tokenizer.bos_id})
    values = {
        "messages": [user],
        "add_generation_prompt": True,
        "tools": None,
        "documents": None,
        "bos_token": names.get(tokenizer.bos_id, ""),
        "eos_token": names.get(ends[0], "") if ends else "",
        **(marks or {}),
    }
    if system is None:
        return tokenizer.encode_marked(_render(template, values))
    found = _render(template, values | {"messages": [{"role": "system", "content": system}, user]})
    if system.strip() and system.strip() not in found and found == _render(template, values):
        raise ChatError("System part (--system) must be left out: the model's template has none")
    return tokenizer.encode_marked(found)


def _render(template: str, values: Mapping[str, Any]) -> str:
    command = [sys.executable, "-P", "-c", _CHILD]
    try:
        done = subprocess.run(
            command,
            input=json.dumps([template, dict(values)]).encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ChatError(f"Template for chats must end within {_PATIENCE} s") from None
    try:
        outcome, text = json.loads(done.stdout)
    except ValueError:  # ended by the system, or out of memory
        raise ChatError(
            f"Template for chats must end within {_SECONDS} s and {_BYTES >> 20} MB"
        ) from None
    if outcome != "text":
        raise ChatError(f"Template for chats must work, not fail: {' '.join(text.split())[:200]}")
    if len(text) > _LONGEST:
        raise ChatError(f"Chat must have at most {_LONGEST} characters, not {len(text)}")
    return text


_CHILD = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({_BYTES}, {_BYTES}))
"""
_CHILD += """
import json, sys
from datetime import datetime
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

def refuse(message):
    raise ValueError(message)

def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)

class Generation(Extension):
    tags = {"generation"}  # around what an assistant has written

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)

template, values = json.loads(sys.stdin.buffer.read())
try:
    world = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                          extensions=["jinja2.ext.loopcontrols", Generation])
    world.globals.update(raise_exception=refuse,
                         strftime_now=lambda form: datetime.now().strftime(form))
    world.filters["tojson"] = tojson
    found = ["text", world.from_string(template).render(**values)]
except MemoryError:
    sys.exit(1)
except Exception as error:
    found = ["error", f"{type(error).__name__}: {error}"]
json.dump(found, sys.stdout)
"""
