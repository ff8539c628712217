# SPDX-License-Identifier: BSD-2-Clause
"""Sequences that the golden model writes; those of large models are kept between runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_bytes
from diptych_sim.golden.machine import GoldenModel, KvCache
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["GoldenSequence", "golden_sequence"]

KEPT = 10_000_000
"""Weights of a model from which on its sequences are kept; smaller ones write them in no time."""
PACKAGES = ("diptych_sim.golden", "diptych_sim.llm")
"""Packages that a sequence depends on, beside the model, the prompt and versions."""


@dataclass(frozen=True, kw_only=True)
class GoldenSequence:
    """A sequence of the golden model.

    Attributes
    ----------
    prompt : int
        Tokens of the prompt.
    tokens : list of int
        Tokens after it.
    norms : list of array
        The final norm's output that each token comes from: int8 [dim].
    cache : list of KvCache
        KV cache of each layer, after the token before the last one was appended; of as many
        positions as there are, or more.
    wide : array
        At which positions, in which layers, hidden elements exceed the floor of their magnitudes.
    """

    prompt: int
    tokens: list[int]
    norms: list[NDArray[np.int64]]
    cache: list[KvCache]
    wide: NDArray[np.bool_]

    def wide_layers(self, first: int) -> list[int]:
        """Return in how many layers a row is wide, of each position from ``first`` on."""
        end = self.prompt + len(self.tokens) - 1
        return self.wide[first:end].sum(-1).tolist()

    def to_bytes(self) -> bytes:
        """Return all of it as the content of an ``.npz`` file."""
        positions = self.prompt + len(self.tokens) - 1
        content = io.BytesIO()
        np.savez(
            content,
            prompt=self.prompt,
            tokens=np.array(self.tokens),
            norms=np.array(self.norms),
            keys=np.array([each.keys[:positions] for each in self.cache]),
            values=np.array([each.values[:positions] for each in self.cache]),
            wide=self.wide[:positions],
        )
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what :meth:`to_bytes` has made bytes of, with the positions that there are."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = dict(file)
        return cls(
            prompt=int(found["prompt"]),
            tokens=found["tokens"].tolist(),
            norms=list(found["norms"]),
            cache=[KvCache(*each) for each in zip(found["keys"], found["values"], strict=True)],
            wide=found["wide"],
        )


def golden_sequence(
    model: QuantizedModel,
    prompt: Sequence[int],
    count: int,
    *,
    stops: Sequence[int] = (),
    seed: int = 0,
    progress: Callable[[int], None],
) -> GoldenSequence:
    """Return what the golden model computes for ``count`` tokens after a prompt.

    It ends with a token of ``stops``; ``seed`` is that of tokens that are drawn. ``progress`` is
    called with the number of tokens so far, unless the sequence was kept by an earlier run.
    """

    def write() -> GoldenSequence:
        return _written(model, prompt, count, stops, seed, progress)

    if model.config.parameters < KEPT:
        return write()
    # All sums are exact, so no processor makes another sequence.
    values = (model, tuple(prompt), count, tuple(stops), seed)
    key = fingerprint(*values, packages=PACKAGES)
    if key is None:
        return write()
    path = cache_root() / "sequences" / f"{key}.npz"
    return GoldenSequence.from_bytes(cached_bytes(path, lambda: write().to_bytes()))


def _written(
    model: QuantizedModel,
    prompt: Sequence[int],
    count: int,
    stops: Sequence[int],
    seed: int,
    progress: Callable[[int], None],
) -> GoldenSequence:
    golden = GoldenModel(model, seed)
    token, norm = golden.step(list(prompt))
    tokens, norms = [token], [norm]
    while True:
        progress(len(tokens))
        if len(tokens) == count or token in stops:
            break
        token, norm = golden.step([token])
        tokens.append(token)
        norms.append(norm)
    return GoldenSequence(
        prompt=len(prompt), tokens=tokens, norms=norms, cache=golden.cache, wide=golden.wide
    )
