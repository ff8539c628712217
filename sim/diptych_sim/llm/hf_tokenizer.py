# SPDX-License-Identifier: BSD-2-Clause
"""Tokenizers as the library of that name runs them, from a ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from diptych_sim.llm.json_files import unique_keys
from diptych_sim.llm.tokenizer import START, TextError, to_utf8
from diptych_sim.llm.tokenizer_process import Encoded, TokenizerProcess

__all__ = ["ALPHABET", "HfTokenizer"]


def _byte_alphabet() -> dict[str, int]:
    """Byte of every character of byte-level BPE: printable ones are themselves (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + index): byte for index, byte in enumerate(others)}


ALPHABET = _byte_alphabet()


class HfTokenizer:
    """A ``tokenizer.json``: byte-level BPE (Llama 3), or BPE with byte fallback (Llama 2).

    Parameters
    ----------
    source : str
        Content of a ``tokenizer.json``.
    vocab_size : int
        Tokens of the model; at least those of the file.
    bos_id : int or None
        Behind which the model begins to write by itself, in ``range(vocab_size)``; None for a model
        without such a mark, which begins behind the first of ``eos_ids``, or token 0.
    eos_ids : sequence of int
        At which it ends, in ``range(vocab_size)``; without any, texts go on as BOS allows.
    added : pair of str or None, optional
        Texts of the marks before and behind a prompt, None for no mark; without it, what the file's
        post-processor adds.

    Raises
    ------
    ValueError
        If the file cannot be read, is too large, or lacks tokens for bytes. Byte-level BPE may lack
        them: a text that needs one is refused.
    """

    def __init__(
        self,
        source: str,
        *,
        vocab_size: int,
        bos_id: int | None,
        eos_ids: Sequence[int],
        added: tuple[str | None, str | None] | None = None,
    ) -> None:
        begins = [] if bos_id is None else [bos_id]
        for words, number in (*(("BOS", n) for n in begins), *(("EOS", n) for n in eos_ids)):
            if number not in range(vocab_size):
                raise ValueError(f"{words} token must be in range({vocab_size}), not {number!r}")
        try:
            self._process = TokenizerProcess(source)
        except ValueError as error:
            raise _no_tokenizer(error) from error
        self._check_numbers(vocab_size)  # soon, as what is read next may be long
        try:
            description = json.loads(source, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise _no_tokenizer(error) from error
        numbers = self._process.numbers
        self._byte_level = "ByteLevel" in json.dumps(
            [description.get("pre_tokenizer"), description.get("decoder")]
        )
        if self._byte_level:
            self._byte_ids = {byte: numbers.get(text) for text, byte in ALPHABET.items()}
        else:
            self._byte_ids = {byte: numbers.get(f"<0x{byte:02X}>") for byte in range(256)}
            absent = [byte for byte, number in self._byte_ids.items() if number is None]
            if absent:
                raise ValueError(
                    f"tokenizer.json must have a token for every byte, not leave out "
                    f"{len(absent)} of 256"
                )
            # Without it, what has no token would become one that says "unknown", and be lost.
            if description["model"].get("type") in ("BPE", "Unigram"):
                description["model"]["byte_fallback"] = True
                self._process.load(json.dumps(description))
        self._vocab_size = vocab_size
        self._bos_id = [*begins, *eos_ids, 0][0]
        self._stop_ids = frozenset((*begins, *eos_ids))
        specials = self._process.marks
        self._mark_texts = {text: n for n, (text, special) in specials.items() if special}
        self._marks = self._stop_ids | set(self._mark_texts.values())
        unknown = description["model"].get("unk_token")
        if unknown in numbers:
            self._marks |= {numbers[unknown]}  # what it stands for would be lost
        self._pieces: dict[int, bytes] = {
            number: self._text(token) for token, number in numbers.items() if number not in specials
        }
        for number, (text, _) in specials.items():
            self._pieces[number] = text.encode()
        self._numbers = {
            text: number
            for number, text in sorted(self._pieces.items(), reverse=True)
            if number not in self._marks
        }
        for number in self._marks:
            self._pieces[number] = b""
        self._prefix, self._suffix = self._added(added, numbers)
        first = self._plain_ids("a")
        self._strips_space = b"".join(self._pieces.get(n, b"") for n in first) == b" a"

    def _check_numbers(self, vocab_size: int) -> None:
        numbers = self._process.numbers.values()
        if max(numbers, default=0) >= vocab_size:
            raise ValueError(
                f"Tokens of tokenizer.json must be in range({vocab_size}) as the model's, "
                f"not up to {max(numbers)}"
            )
        if len(numbers) > vocab_size:
            raise ValueError(
                f"Tokens of tokenizer.json must be at most {vocab_size}, not {len(numbers)}"
            )

    def _added(
        self, added: tuple[str | None, str | None] | None, numbers: Mapping[str, int]
    ) -> tuple[list[int], list[int]]:
        """Return the marks before and behind every prompt."""
        if added is not None:
            for text in added:
                if text is not None and text not in numbers:
                    raise ValueError(f"tokenizer.json must have the mark {text!r} to be added")
            before, behind = ([] if text is None else [numbers[text]] for text in added)
            return before, behind
        ids, _, masks = self._encoded("a", added=True)
        plain = [at for at, mask in enumerate(masks) if not mask] or [len(ids)]
        return ids[: plain[0]], ids[plain[-1] + 1 :]

    def _text(self, token: str) -> bytes:
        if self._byte_level:
            return bytes(ALPHABET[character] for character in token if character in ALPHABET)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace("\u2581", " ").encode()

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def bos_id(self) -> int:
        return self._bos_id

    @property
    def prefix(self) -> list[int]:
        return list(self._prefix)

    @property
    def stop_ids(self) -> frozenset[int]:
        return self._stop_ids

    def encode(self, text: str, bos: bool = True) -> list[int]:
        tokens: list[int] = []
        for part in _valid_runs(to_utf8(text)):
            tokens += self._plain_ids(part) if isinstance(part, str) else [self._byte_id(part)]
        return [*self._prefix, *tokens, *self._suffix] if bos else tokens

    @property
    def mark_texts(self) -> Mapping[str, int]:
        return self._mark_texts

    def encode_marked(self, text: str) -> list[int]:
        tokens = self._encoded(text, marks=True).ids
        lacking = {byte for byte, number in self._byte_ids.items() if number is None}
        for byte in sorted(lacking.intersection(to_utf8(text))):
            self._byte_id(byte)  # would be left out
        return tokens

    def _encoded(self, text: str, *, marks: bool = False, added: bool = False) -> Encoded:
        try:
            return self._process.encode(text, marks=marks, added=added)
        except ValueError as error:
            raise TextError(f"Tokenizer must take the text, not fail: {error}") from error

    def _byte_id(self, byte: int) -> int:
        number = self._byte_ids[byte]
        if number is None:
            raise TextError(
                f"Text must have bytes that the tokenizer has tokens for, not 0x{byte:02X}"
            )
        return number

    def _plain_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, none of them a mark."""
        # A mark written out in a prompt is text, not a mark.
        found = self._encoded(text)
        if self._marks.isdisjoint(found.ids) and "<0x" not in text:
            tokens = found.ids
        else:
            # A vocabulary may hold a mark, or the name of a byte, as if it were a word.
            tokens = []
            for number, (start, end) in zip(found.ids, found.offsets, strict=True):
                part = text[start:end]
                named = "<0x" in part and number in self._byte_ids.values()
                tokens += self._spelled(part) if number in self._marks or named else [number]
        lacking = {byte for byte, number in self._byte_ids.items() if number is None}
        needed = lacking.intersection(text.encode()) if lacking else ()
        if needed:
            written = b"".join(self._pieces.get(number, b"") for number in tokens)
            if text.encode() not in written:
                self._byte_id(min(needed))  # would be left out
        return tokens

    def _spelled(self, text: str) -> list[int]:
        """Return the tokens of the single characters of a text."""
        tokens: list[int] = []
        for character in text:
            data = character.encode()
            number = self._numbers.get(data)
            tokens += map(self._byte_id, data) if number is None else [number]
        return tokens

    def piece(self, previous: int, token: int) -> bytes:
        text = self._pieces.get(token, b"")
        before = self._prefix[-1] if self._prefix else START
        strips = self._strips_space and previous == before
        return text[1:] if strips and text.startswith(b" ") else text


def _no_tokenizer(error: Exception) -> ValueError:
    return ValueError(f"tokenizer.json must be a tokenizer, not this: {error}")


def _valid_runs(data: bytes) -> Iterable[str | int]:
    """Runs of UTF-8 as text, and bytes that are none as numbers."""
    run: list[str] = []
    for character in data.decode("utf-8", "surrogateescape"):
        if "\udc80" <= character <= "\udcff":
            if run:
                yield "".join(run)
                run.clear()
            yield ord(character) - 0xDC00
        else:
            run.append(character)
    if run:
        yield "".join(run)
