# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers as GGUF files hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych_sim.llm.hf_tokenizer import HfTokenizer
from diptych_sim.llm.tokenizer import Llama2cTokenizer, Tokenizer

__all__ = ["tokenizer_of"]

_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
"""Types of tokens: marks, texts that are never split, and bytes."""
_MOST_MARKS = 2**14
"""Of a vocabulary of SentencePiece, which are looked for in a text."""
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_APOSTROPHES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _split(digits: str) -> list[dict[str, Any]]:
    pattern = {"Regex": f"{_APOSTROPHES}|{_WORDS}|{digits}|{_REST}"}
    return [{"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}, _LEVEL]


_GPT2 = [{**_LEVEL, "use_regex": True}]
_SPLITS: Mapping[str, list[dict[str, Any]]] = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "smollm": [{"type": "Digits", "individual_digits": True}, *_GPT2],
    "llama-bpe": _split(r"\p{N}{1,3}"),
    "qwen2": _split(r"\p{N}"),
}
"""How a text is cut before pairs are merged, by tokenizer.ggml.pre."""
_WHOLE = ("llama-bpe",)
"""Kinds that take a word which is a token as it is, whatever merges say."""


def tokenizer_of(fields: Mapping[str, Any], vocab: int) -> Tokenizer:
    """Return the tokenizer in the keys of a GGUF file, for a model with ``vocab`` tokens.

    Raises
    ------
    ValueError
        If there is none, or one of a kind that we do not read.
    """
    kind = fields.get("tokenizer.ggml.model")
    tokens = fields.get("tokenizer.ggml.tokens")
    if kind not in ("gpt2", "llama"):
        raise ValueError(
            f"Tokenizer (tokenizer.ggml.model) must be gpt2 or llama, not {kind!r:.40}"
        )
    if not isinstance(tokens, list) or not 2 <= len(tokens) <= vocab:
        count = len(tokens) if isinstance(tokens, list) else "none"
        raise ValueError(
            f"Tokens (tokenizer.ggml.tokens) must be from 2 to the model's {vocab}, not {count}"
        )
    types = fields.get("tokenizer.ggml.token_type")
    if types is None:
        types = np.ones(len(tokens), np.int32)
    if not isinstance(types, np.ndarray) or len(types) != len(tokens):
        raise ValueError(f"Types (tokenizer.ggml.token_type) must be {len(tokens)} numbers")
    bos = _mark(fields, "bos_token_id", len(tokens))
    ends = [
        number
        for name in ("eos", "eot", "eom")
        if (number := _mark(fields, f"{name}_token_id", len(tokens))) is not None
    ]
    if kind == "gpt2":
        return _byte_level(fields, tokens, types, vocab, bos, ends)
    # Without keys of marks, those of SentencePiece.
    return _sentence_pieces(fields, tokens, types, 1 if bos is None else bos, ends or [2])


def _mark(fields: Mapping[str, Any], name: str, count: int) -> int | None:
    number = fields.get(f"tokenizer.ggml.{name}")
    if number is not None and (type(number) is not int or not 0 <= number < count):
        raise ValueError(
            f"Mark (tokenizer.ggml.{name}) must be in range({count}), not {number!r:.40}"
        )
    return number


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(f"tokenizer.ggml.{name}", default)
    if type(value) is not bool:
        raise ValueError(f"tokenizer.ggml.{name} must be true or false, not {value!r:.40}")
    return value


def _byte_level(
    fields: Mapping[str, Any],
    tokens: list[str],
    types: np.ndarray,
    vocab: int,
    bos: int | None,
    ends: Sequence[int],
) -> Tokenizer:
    pre = fields.get("tokenizer.ggml.pre", "default")
    if pre not in _SPLITS:
        raise ValueError(
            f"Tokenizer (tokenizer.ggml.pre) must be one of {', '.join(_SPLITS)}, not {pre!r:.40}"
        )
    merges = fields.get("tokenizer.ggml.merges", [])
    if type(merges) is not list:
        raise ValueError("Merges (tokenizer.ggml.merges) must be texts")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": at, "content": tokens[at], "special": bool(types[at] == _CONTROL), **flags}
        for at in np.flatnonzero(np.isin(types, (_CONTROL, _USER_DEFINED))).tolist()
    ]
    plain = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    source = {
        "version": "1.0",
        **plain,
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _SPLITS[pre]},
        "decoder": {**_LEVEL, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: at for at, token in enumerate(tokens)},
            "merges": merges,
            "ignore_merges": pre in _WHOLE,
        },
    }
    adds = _flag(fields, "add_bos_token", pre in _WHOLE), _flag(fields, "add_eos_token", False)
    first = tokens[bos] if adds[0] and bos is not None else None
    last = tokens[ends[0]] if adds[1] and ends else None
    return HfTokenizer(
        json.dumps(source), vocab_size=vocab, bos_id=bos, eos_ids=ends, added=(first, last)
    )


def _sentence_pieces(
    fields: Mapping[str, Any],
    tokens: list[str],
    types: np.ndarray,
    bos: int,
    ends: Sequence[int],
) -> Tokenizer:
    scores = fields.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or len(scores) != len(tokens):
        raise ValueError(f"Scores (tokenizer.ggml.scores) must be {len(tokens)} numbers")
    if any(map(math.isnan, scores.tolist())):
        raise ValueError("Scores (tokenizer.ggml.scores) must not be NaN")
    if _flag(fields, "add_eos_token", False):
        raise ValueError("Prompts (tokenizer.ggml.add_eos_token) must not end with a mark")
    pieces = [token.replace("\u2581", " ").encode("utf-8", "surrogateescape") for token in tokens]
    for at in np.flatnonzero(types == _CONTROL).tolist():
        pieces[at] = b""  # never text
    marks, whole = (np.flatnonzero(types == kind).tolist() for kind in (_CONTROL, _USER_DEFINED))
    if len(marks) + len(whole) > _MOST_MARKS:
        raise ValueError(
            f"Marks (tokenizer.ggml.token_type) must be at most {_MOST_MARKS}, "
            f"not {len(marks) + len(whole)}"
        )
    of_bytes = np.flatnonzero(types == _BYTE)
    return Llama2cTokenizer(
        pieces,
        scores.tolist(),
        bos_id=bos,
        eos_ids=ends,
        adds_bos=_flag(fields, "add_bos_token", True),
        adds_space=_flag(fields, "add_space_prefix", True),
        marks={tokens[at]: at for at in marks if tokens[at]},
        whole={tokens[at].replace("\u2581", " "): at for at in whole if tokens[at]},
        first_byte=int(of_bytes[0]) if len(of_bytes) else 3,
    )
