# SPDX-License-Identifier: BSD-2-Clause
"""How well a model, or an approximation of it, predicts a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych_sim.llm.tokenizer import Tokenizer

Predict = Callable[[Sequence[int]], NDArray]
"""Tokens [T] of a new sequence -> logits [T, vocab], in real units."""
WINDOW = 512
"""Tokens of a window at most."""
_ROWS = 64
"""Rows of logits that are compared at a time."""


def documents(text: str) -> list[str]:
    """Parts of ``text`` between empty lines."""
    return [part.strip("\n") for part in text.split("\n\n") if part.strip()]


def windows(
    tokenizer: Tokenizer,
    text: str,
    context: int,
    limit: int | None = None,
    *,
    whole: bool = False,
) -> list[list[int]]:
    """Cut every document of ``text``, or all of it as one, into windows of ``context`` tokens.

    Windows are of fewer tokens at the end of a document.

    Each window begins with the marks of a prompt, if there are any, and continues where the last
    one ended; ``limit`` is the largest number of windows, spread evenly over the text. A window has
    at least two tokens.
    """
    found: list[list[int]] = []
    before = tokenizer.prefix
    room = max(context - len(before), 1)
    for document in [text] if whole else documents(text):
        tokens = tokenizer.encode(document)[len(before) :]
        cut = [[*before, *tokens[at : at + room]] for at in range(0, len(tokens), room)]
        found += [window for window in cut if len(window) > 1]
    if limit is not None and limit < len(found):
        found = [found[index * len(found) // limit] for index in range(limit)]
    return found


def cut(rows: Iterable[Sequence[int]], tokens: int) -> list[Sequence[int]]:
    """Return the first of ``rows``, the last one cut, in which ``tokens`` are predicted.

    Fewer where there are no more.
    """
    found: list[Sequence[int]] = []
    for row in rows:
        if tokens < 1:
            break
        found.append(row[: tokens + 1])
        tokens -= len(found[-1]) - 1
    return found


@dataclass(frozen=True)
class Score:
    """How well a text was predicted.

    ``nats`` is the sum of the losses of ``tokens`` tokens that stand for ``size`` bytes.
    """

    tokens: int
    size: int
    nats: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """Perplexity per token.

        Raises
        ------
        OverflowError
            If it is no number.
        """
        if not math.isfinite(self.loss):
            raise OverflowError("Loss must be finite")
        return math.exp(self.loss)

    @property
    def byte_perplexity(self) -> float:
        """Perplexity per byte: comparable between vocabularies."""
        return math.exp(self.nats / self.size)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text."""
        return self.nats / self.size / math.log(2)


def losses(logits: NDArray, targets: Sequence[int]) -> NDArray[np.float64]:
    """Loss, in nats, of ``targets`` [T] under ``logits`` [T, vocab]."""
    rows = np.asarray(logits, np.float64)
    largest = rows.max(-1)
    total = np.log(np.exp(rows - largest[:, None]).sum(-1)) + largest
    return total - rows[np.arange(len(rows)), np.asarray(targets)]


def score(predict: Predict, rows: Iterable[Sequence[int]], tokenizer: Tokenizer) -> Score:
    """Score of every token of ``rows`` but the first of each, teacher-forced."""
    count, size, nats = 0, 0, 0.0
    for row in rows:
        targets = row[1:]
        nats += float(losses(predict(row[:-1]), targets).sum())
        count += len(targets)
        size += _size(tokenizer, targets)
    return Score(count, size, nats)


@dataclass(frozen=True)
class Comparison:
    """Two predictions of one text, side by side."""

    reference: Score
    other: Score
    agreeing: int
    """Tokens for which both find the same one likeliest."""
    divergences: NDArray[np.float64]
    """Divergence (Kullback-Leibler) of the other's prediction of each token, in nats."""

    @property
    def agreement(self) -> float:
        """Share of the tokens for which both find the same one likeliest."""
        return self.agreeing / self.reference.tokens

    @property
    def degradation(self) -> float:
        """How much larger the other's perplexity is: 0.01 is 1 %."""
        return self.other.perplexity / self.reference.perplexity - 1

    @property
    def divergence(self) -> float:
        """Mean divergence, in nats per token."""
        return float(self.divergences.mean())

    @property
    def divergence_error(self) -> float:
        """Standard error of the mean divergence, as if tokens were independent."""
        return float(self.divergences.std() / math.sqrt(len(self.divergences)))


def compare(
    reference: Predict, other: Predict, rows: Iterable[Sequence[int]], tokenizer: Tokenizer
) -> Comparison:
    """Score both on ``rows``, as :func:`score` does; of equal logits the lowest token wins."""
    count, size, agreeing = 0, 0, 0
    nats = np.zeros(2)
    divergences: list[NDArray[np.float64]] = []
    for row in rows:
        inputs, targets = row[:-1], row[1:]
        both = [np.asarray(predict(inputs)) for predict in (reference, other)]
        pair: list[NDArray] = []
        for start in range(0, len(targets), _ROWS):
            part = slice(start, start + _ROWS)
            pair = [logits[part] for logits in both]
            nats += [losses(logits, targets[part]).sum() for logits in pair]
            agreeing += int((pair[0].argmax(-1) == pair[1].argmax(-1)).sum())
            divergences.append(_divergence(*pair))
        del both, pair  # of a vocabulary they take much memory
        count += len(targets)
        size += _size(tokenizer, targets)
    return Comparison(
        reference=Score(count, size, float(nats[0])),
        other=Score(count, size, float(nats[1])),
        agreeing=agreeing,
        divergences=np.concatenate(divergences),
    )


def _divergence(reference: NDArray, other: NDArray) -> NDArray[np.float64]:
    """Divergence of each row of logits [T, vocab] from the reference's."""
    logs = []
    for logits in (reference, other):
        rows = logits - logits.max(-1, keepdims=True).astype(np.float64)
        logs.append(rows - np.log(np.exp(rows).sum(-1, keepdims=True)))
    return (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)


def _size(tokenizer: Tokenizer, tokens: Iterable[int]) -> int:
    # Not as if behind BOS, where a tokenizer may take a space away.
    return sum(len(tokenizer.piece(-1, token)) for token in tokens)
