# SPDX-License-Identifier: BSD-2-Clause
"""Text to tokens and back; the vocabularies of llama2.c and of SentencePiece."""

from __future__ import annotations

import codecs
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

__all__ = [
    "START",
    "Llama2cTokenizer",
    "TextError",
    "TextStream",
    "Tokenizer",
    "decode",
    "to_utf8",
]

_UNKNOWN, _BOS, _EOS, _FIRST_BYTE = 0, 1, 2, 3


START = -2
"""What is before the first token of a prompt without marks."""


class TextError(ValueError):
    """A text that a vocabulary cannot write; the message is one line that names what is missing."""


class Tokenizer(Protocol):
    """Turns text into tokens and back.

    For every ``text``, the pieces of ``encode(text)`` one after the other are the bytes of
    ``to_utf8(text)``: what the vocabulary has no token for is encoded byte by byte. A mark that is
    written out in it is text.
    """

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    @property
    def bos_id(self) -> int:
        """The token behind which a model begins to write by itself."""
        ...

    @property
    def prefix(self) -> list[int]:
        """Marks ahead of every prompt: ``bos_id``, or none, as the model's files say."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which writing ends; they have no text."""
        ...

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Tokens of ``text``; with ``bos`` as a prompt, marks added, else as they go on a text.

        Bytes that are not UTF-8, as lone surrogates (how Python keeps them in an argument of the
        command line), are encoded too.

        Raises
        ------
        TextError
            If the vocabulary has no token for a byte of it.
        """
        ...

    @property
    def mark_texts(self) -> Mapping[str, int]:
        """Marks by how they are written in a chat's template."""
        ...

    def encode_marked(self, text: str) -> list[int]:
        """Tokens of ``text``, in which marks that are written out are marks; none are added.

        Raises
        ------
        TextError
            If the vocabulary has no token for a byte of it.
        """
        ...

    def piece(self, previous: int, token: int) -> bytes:
        """Bytes that ``token`` adds to a text whose last token is ``previous``, or :data:`START`.

        May be part of a character. Marks, and tokens that no text is known for, add nothing.
        """
        ...


def to_utf8(text: str) -> bytes:
    """Bytes of ``text``; surrogates that stand for a byte become it, others their three bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> bytes:
    """Bytes of all ``tokens``, which are a prompt with what was written behind it."""
    previous = START
    text = bytearray()
    for token in tokens:
        text += tokenizer.piece(previous, token)
        previous = token
    return bytes(text)


class TextStream:
    """Text of tokens as they come: a character is held back until all of its bytes are there.

    Parameters
    ----------
    tokenizer : Tokenizer
        Where the tokens are from.
    previous : int
        The last token of the prompt.
    """

    def __init__(self, tokenizer: Tokenizer, previous: int) -> None:
        self._tokenizer = tokenizer
        self._previous = previous
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Text that is complete with ``token``."""
        piece = self._tokenizer.piece(self._previous, token)
        self._previous = token
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return the rest at the end; a character cut short reads as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _byte_token(byte: int) -> bytes:
    return b"<0x%02X>" % byte


class Llama2cTokenizer:
    """SentencePiece's byte-pair encoding by scores, as llama2.c does it.

    Parameters
    ----------
    pieces : sequence of bytes
        Text of every token: those ahead of the bytes are marks, those behind them are words.
    scores : sequence of float
        Of every token; of all pairs that can be merged, the one of the best score is.
    bos_id : int
        Behind which the model begins to write by itself.
    eos_ids : sequence of int
        At which it ends.
    adds_bos, adds_space : bool
        Whether the mark, and a space, go before every prompt.
    marks : mapping, optional
        Marks by how they are written in a chat's template.
    whole : mapping, optional
        Tokens of texts that are never split, in any text.
    first_byte : int
        The first of the 256 tokens of bytes.

    Raises
    ------
    ValueError
        If there are no tokens for the bytes, or not as many scores as pieces.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        scores: Sequence[float],
        *,
        bos_id: int = _BOS,
        eos_ids: Sequence[int] = (_EOS,),
        adds_bos: bool = True,
        adds_space: bool = True,
        marks: Mapping[str, int] | None = None,
        whole: Mapping[str, int] | None = None,
        first_byte: int = _FIRST_BYTE,
    ) -> None:
        if len(scores) != len(pieces):
            raise ValueError(f"Scores must be {len(pieces)!r}, not {len(scores)!r}")
        first_piece = first_byte + 256
        if [*pieces[first_byte:first_piece]] != [_byte_token(byte) for byte in range(256)]:
            raise ValueError(
                f"Tokens {first_byte} to {first_piece - 1} must be the bytes <0x00> to <0xFF>"
            )
        self._first_byte, self._first_piece = first_byte, first_piece
        self._pieces = tuple(pieces)
        self._scores = tuple(scores)
        self._bos_id = bos_id
        # llama2.c's models write the mark of the next text's beginning.
        self._stop_ids = frozenset((bos_id, *eos_ids))
        self._prefix = [bos_id] if adds_bos else []
        self._adds_space = adds_space
        self._mark_texts, self._whole = dict(marks or {}), dict(whole or {})
        self._whole_numbers = frozenset(self._whole.values())
        # Without marks and bytes, so that text which looks like one stays text.
        self._numbers: dict[bytes, int] = {}
        for number in range(first_piece, len(pieces)):
            if pieces[number] and number not in self._whole_numbers:
                self._numbers.setdefault(pieces[number], number)

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

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
        tokens = self._split(text, self._whole, space=bos and self._adds_space)
        return [*self._prefix, *tokens] if bos else tokens

    def _split(self, text: str, whole: Mapping[str, int], *, space: bool) -> list[int]:
        """Return the tokens of a text in which ``whole`` are not split."""
        names = sorted(whole, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
        tokens: list[int] = []
        for at, part in enumerate(parts):
            number = whole.get(part)
            tokens += self._words(part, space and at == 0) if number is None else [number]
        return tokens

    def _words(self, text: str, space: bool) -> list[int]:
        tokens: list[int] = []
        if text and space and b" " in self._numbers:
            # SentencePiece sees a space before every text; piece() takes it away again.
            tokens.append(self._numbers[b" "])
        for character in _characters(to_utf8(text)):
            number = self._numbers.get(character)
            first = self._first_byte
            tokens += [first + byte for byte in character] if number is None else [number]
        return self._merge(tokens)

    @property
    def mark_texts(self) -> Mapping[str, int]:
        return self._mark_texts

    def encode_marked(self, text: str) -> list[int]:
        return self._split(text, self._whole | self._mark_texts, space=False)

    def _merge(self, tokens: list[int]) -> list[int]:
        """Merge the pair of the best score, the leftmost of equals, until there is none."""
        live: list[int | None] = [*tokens]
        before = [at - 1 for at in range(len(tokens))]
        behind = [at + 1 for at in range(len(tokens))]
        found: list[tuple[float, int, int, int, int]] = []

        def look(at: int) -> None:
            """Note the pair that begins at ``at``, if it can be merged."""
            if at < 0 or behind[at] == len(live):
                return
            left, right = live[at], live[behind[at]]
            assert left is not None
            assert right is not None
            if left >= self._first_piece and right >= self._first_piece:
                merged = self._numbers.get(self._pieces[left] + self._pieces[right])
                if merged is not None:
                    heapq.heappush(found, (-self._scores[merged], at, left, right, merged))

        for at in range(len(live)):
            look(at)
        while found:
            _, at, left, right, merged = heapq.heappop(found)
            gone = behind[at]
            if live[at] != left or gone == len(live) or live[gone] != right:
                continue  # one of the two has been merged with another since
            live[at], live[gone] = merged, None
            behind[at] = behind[gone]
            if behind[at] < len(live):
                before[behind[at]] = at
            look(at)
            look(before[at])
        return [token for token in live if token is not None]

    def piece(self, previous: int, token: int) -> bytes:
        if token in self._whole_numbers:
            return self._pieces[token]
        if not self._first_byte <= token < len(self._pieces):
            return b""
        if token < self._first_piece:
            return bytes([token - self._first_byte])
        text = self._pieces[token]
        first = self._prefix[-1] if self._prefix else START
        strips = self._adds_space and previous == first
        return text[1:] if strips and text.startswith(b" ") else text


def _characters(data: bytes) -> Iterable[bytes]:
    """Characters of ``data``; bytes that are not UTF-8 one by one."""
    for character in data.decode("utf-8", "surrogateescape"):
        yield character.encode("utf-8", "surrogateescape")
