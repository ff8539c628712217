# SPDX-License-Identifier: BSD-2-Clause
"""Writes the model card: where the model is from, and what was measured on its files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.golden import evaluate
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.llm import hf
from diptych_sim.llm.hf_tokenizer import HfTokenizer
from diptych_sim.llm.tokenizer import decode
from diptych_sim.train import corpus

TEMPLATE = Path(__file__).with_name("card.template.md")
PROMPTS = (
    "In the beginning",
    "And it came to pass",
    "Once upon a time",
    "The king said unto the woman",
)
LENGTH = 64
TEMPERATURE = 0.7


def write_card(folder: Path, record: Mapping[str, Any], text: corpus.Corpus) -> None:
    """Measure the model in ``folder`` and write ``MODEL_CARD.md`` beside it.

    ``record`` holds the ``settings`` and the best ``progress`` of the training run.
    """
    model, tokenizer = hf.load_folder(folder)
    config = model.config
    reference = FloatReference(model)
    rows = evaluate.windows(tokenizer, "\n\n".join(text.held_out), config.context)
    score = evaluate.score(reference.logits, rows, tokenizer)
    settings, progress = record["settings"], record["progress"]
    files = ("model.safetensors", "config.json", "tokenizer.json")
    held_size = sum(map(len, text.held_out))

    def samples(temperature: float) -> str:
        lines = (
            f"- **{prompt}**{sample(reference, tokenizer, prompt, LENGTH, temperature)}"
            for prompt in PROMPTS
        )
        return "\n".join(_wrap(line) for line in lines)

    card = TEMPLATE.read_text(encoding="utf-8").format(
        parameters=f"{config.parameters:,}",
        **{
            name: getattr(config, name)
            for name in ("dim", "hidden", "layers", "heads", "kv_heads", "vocab", "context")
        },
        merges=config.vocab - 258,
        size=f"{sum((folder / name).stat().st_size for name in files) / 1e6:.2f}",
        perplexity=f"{score.perplexity:.3f}",
        byte_perplexity=f"{score.byte_perplexity:.3f}",
        bits=f"{score.bits_per_byte:.3f}",
        tokens=f"{score.tokens:,}",
        bytes=f"{score.size:,}",
        package=corpus.PACKAGE,
        chapters=f"{len(text.training) + len(text.held_out):,}",
        held_chapters=len(text.held_out),
        every=corpus.HELD_OUT_EVERY,
        first=corpus.HELD_OUT_FIRST,
        held_size=f"{held_size:,}",
        all_size=f"{held_size + sum(map(len, text.training)):,}",
        digest=corpus.digest(text),
        **{
            name: settings[name]
            for name in (
                *("weight_decay", "clip", "rate", "final_rate", "warmup", "batch", "long_every"),
                *("seed", "steps", "minutes"),
            )
        },
        step_tokens=f"{settings['batch'] * config.context:,}",
        short_batch=settings["batch"] * 2,
        short=config.context // 2,
        best_step=f"{progress['step']:,}",
        best_minutes=f"{progress['minutes']:.0f}",
        length=LENGTH,
        greedy=samples(0.0),
        temperature=TEMPERATURE,
        sampled=samples(TEMPERATURE),
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def sample(
    reference: FloatReference, tokenizer: HfTokenizer, prompt: str, count: int, temperature: float
) -> str:
    """Continue ``prompt``; greedily at temperature 0."""
    rng = np.random.default_rng(1)
    tokens = tokenizer.encode(prompt)
    start = len(tokens)
    rows = reference.logits(tokens)
    while len(tokens) < start + count:
        if temperature:
            scaled = rows[-1] / temperature
            weights = np.exp(scaled - scaled.max())
            token = int(rng.choice(len(weights), p=weights / weights.sum()))
        else:
            token = int(rows[-1].argmax())
        if token in tokenizer.stop_ids:
            break
        tokens.append(token)
        rows = reference.extend([token])
    return decode(tokenizer, tokens[start:]).decode("utf-8", "replace")


def _wrap(line: str) -> str:
    return textwrap.fill(line, 98, subsequent_indent="  ", break_on_hyphens=False)
