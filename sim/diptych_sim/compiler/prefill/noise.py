# SPDX-License-Identifier: BSD-2-Clause
"""Noise of first tokens that are drawn, for the prefill panel."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.systolic.isa import Queue, Target
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import HbmImage, round_up
from diptych_sim.compiler.prefill.commands import PrefillCommands
from diptych_sim.compiler.prefill.prompts import Prompts
from diptych_sim.golden.noise import key_of, noise
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["load_noise"]


def load_noise(
    out: PrefillCommands,
    image: HbmImage,
    model: QuantizedModel,
    prompts: Prompts,
    number: int,
    seed: int,
) -> dict[str, Any]:
    """Load the noise of the position behind a prompt, and return fields of the ARGMAX that adds it.

    It is a table in the HBM, as the factors of RoPE are. It takes the place of the layers' biases.
    """
    vocabulary = model.config.vocab
    assert model.noise_shift is not None
    words = np.zeros(round_up(vocabulary, out.memories.line), dtype="<i4")
    key = key_of(seed, len(prompts.tokens[number]))
    words[:vocabulary] = noise(key, np.arange(vocabulary), model.noise_shift)
    part = f"noise{number}"
    image.add(part, words)
    biases = [Span(f"biases{parity}", 0, 1) for parity in range(2)]
    out.add(
        Queue.LOAD,
        Target.BIASES,
        writes=biases,
        hbm=image.at[part],
        bytes=image.size[part],
        rows=1,
        target=0,
    )
    return {"flags": {"dynamic": 1, "biased": 1}, "reads": biases, "scale": 0}
