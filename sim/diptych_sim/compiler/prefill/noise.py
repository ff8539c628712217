# SPDX-License-Identifier: BSD-2-Clause
"""Noise of first tokens that are drawn, for the prefill panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.systolic.isa import Queue, Target
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import HbmImage, round_up
from diptych_sim.compiler.prefill.commands import PrefillCommands
from diptych_sim.compiler.prefill.prompts import Prompts
from diptych_sim.golden.noise import key_of, noise
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["FirstNoise"]


class FirstNoise:
    """Noise of the position behind each prompt, which prefill adds to the logits.

    It is a table in the HBM, as the factors of RoPE are. It takes the place of the layers' biases.
    """

    def __init__(
        self,
        out: PrefillCommands,
        image: HbmImage,
        model: QuantizedModel,
        prompts: Prompts,
        seeds: Sequence[int],
    ) -> None:
        self._out, self._image, self._model = out, image, model
        self._keys = (
            [
                int(key_of(seed, len(prompt)))
                for seed, prompt in zip(seeds, prompts.tokens, strict=True)
            ]
            if seeds
            else []
        )

    def load(self, number: int, start: int, tiles: int) -> dict[str, Any]:
        """Load that of some column tiles, and return fields of the ARGMAX that adds it."""
        shift, vocabulary = self._model.noise_shift, self._model.config.vocab
        assert shift is not None
        columns = self._out.memories.columns
        tokens = np.arange(start * columns, min((start + tiles) * columns, vocabulary))
        words = np.zeros(round_up(tiles * columns, self._out.memories.line), dtype="<i4")
        words[: len(tokens)] = noise(self._keys[number], tokens, shift)
        part = f"noise{number}.{start}"
        self._image.add(part, words)
        biases = [Span(f"biases{parity}", 0, 1) for parity in range(2)]
        self._out.add(
            Queue.LOAD,
            Target.BIASES,
            writes=biases,
            hbm=self._image.at[part],
            bytes=4 * tiles * columns,
            rows=1,
            target=0,
        )
        return {"flags": {"dynamic": 1, "biased": 1}, "reads": biases, "scale": 0}
