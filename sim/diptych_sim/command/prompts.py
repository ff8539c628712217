# SPDX-License-Identifier: BSD-2-Clause
"""Prompts of ``diptych generate``, and what was written after them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from diptych_sim.command.options import Refused
from diptych_sim.compiler.decode.placement import MAX_SEQUENCES
from diptych_sim.llm.chat import ChatError, chat_prompt
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.tokenizer import TextError, TextStream, Tokenizer, to_utf8
from diptych_sim.run.events import Written

__all__ = ["Prompts", "check_texts", "encode", "text_of", "written"]


@dataclass(frozen=True)
class Prompts:
    """Prompts as text and as tokens, and how many tokens to write after each."""

    shown: list[str]
    ids: list[list[int]]
    counts: list[int]


def check_texts(texts: Sequence[str], counts: Sequence[int]) -> None:
    """Refuse prompts and numbers of tokens that make no sense for any model."""
    if len(texts) > MAX_SEQUENCES:
        raise Refused(f"Number of prompts must be at most {MAX_SEQUENCES}, not {len(texts)}")
    if "" in texts:
        raise Refused("Prompt (--prompt) must not be empty")
    for count in counts:
        if count < 1:
            raise Refused(f"Number of tokens must be at least 1, not {count}")
    if len(counts) not in (1, len(texts)):
        raise Refused(
            f"Number of tokens (--tokens) must be given once or for each of {len(texts)} prompts, "
            f"not {len(counts)} times"
        )


def encode(
    loaded: LoadedModel,
    texts: Sequence[str],
    counts: Sequence[int],
    stage: str,
    *,
    chat: bool = False,
    system: str | None = None,
) -> Prompts:
    """Encode prompts, as a user's part of a ``chat`` if asked for.

    Refuses what does not fit into the model's context.
    """
    context = loaded.model.config.context
    each = list(counts) * (len(texts) if len(counts) == 1 else 1)
    if stage == "prefill":
        each = [1] * len(texts)
    if stage == "decode" and max(each) < 2:
        raise Refused("Number of tokens must be at least 2 to decode, as prefill writes the first")
    try:
        if chat:
            template, marks = loaded.chat_template, loaded.named_marks
            prompts = [
                chat_prompt(loaded.tokenizer, template, text, system, marks=marks) for text in texts
            ]
        else:
            prompts = [loaded.tokenizer.encode(text) for text in texts]
    except ChatError as error:
        raise Refused(str(error)) from None
    except TextError as error:
        raise Refused(f"Prompt (--prompt): {error}") from None
    for text, ids, count in zip(texts, prompts, each, strict=True):
        if not ids:
            raise Refused(f"Prompt (--prompt) must have a token of the model, not {text!r:.40}")
        if len(ids) >= context:
            raise Refused(
                f"Prompt must have fewer tokens than the model's context of {context}, not "
                f"{len(ids)}"
            )
        if len(ids) + count > context:
            raise Refused(
                f"Number of tokens must be at most {context - len(ids)}, as the prompt takes "
                f"{len(ids)} of the model's context of {context}, not {count}"
            )
    # Bytes that are not UTF-8 are lone surrogates here, which neither terminals nor JSON take.
    shown = [to_utf8(text).decode(errors="replace") for text in texts]
    return Prompts(shown, prompts, each)


def text_of(
    tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int], stop_ids: Collection[int]
) -> str:
    """Return the text of tokens after a prompt, up to the first of ``stop_ids``."""
    stream = TextStream(tokenizer, prompt[-1])
    text = []
    for token in tokens:
        if token in stop_ids:
            break
        text.append(stream.add(token))
    return "".join(text) + stream.finish()


def written(
    tokenizer: Tokenizer,
    prompts: Prompts,
    sequences: Sequence[Written],
    stop_ids: Collection[int],
) -> list[dict[str, Any]]:
    """Return the result's ``sequences``."""
    return [
        {
            "prompt": shown,
            "prompt_tokens": len(each.prompt),
            "tokens": each.tokens,
            "text": text_of(tokenizer, each.prompt, each.tokens, stop_ids),
            "matches_golden": each.matches_golden,
            "tpot_cycles": each.cycles_per_token,
        }
        for shown, each in zip(prompts.shown, sequences, strict=True)
    ]
