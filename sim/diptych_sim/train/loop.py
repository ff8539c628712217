# SPDX-License-Identifier: BSD-2-Clause
# pyright: reportMissingImports=false
# Only the recipe needs torch, which the development tools leave out.
"""The training loop: AdamW, cosine schedule, best checkpoint kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from diptych_sim.train.network import Network


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of a training run.

    The run ends after ``steps`` or ``minutes``, whichever comes first; the learning rate follows
    whichever is further along.
    """

    seed: int = 1
    steps: int = 2700
    minutes: float = 45.0
    batch: int = 16
    """Sequences a step while they are as long as the context; twice as many while half as long."""
    long_every: int = 3
    """One step in so many has sequences as long as the context; half as long cost much less."""
    rate: float = 4e-3
    final_rate: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    evaluate_every: int = 100


@dataclass(frozen=True)
class Progress:
    """Where a run stands; losses in nats per token."""

    step: int
    minutes: float
    training_loss: float
    held_out_loss: float


def stream(texts: Sequence[Sequence[int]], bos: int) -> NDArray[np.int64]:
    """All texts one after the other, each behind a ``bos``."""
    return np.concatenate([np.asarray([bos, *text], np.int64) for text in texts])


def windows(tokens: NDArray[np.int64], length: int, bos: int) -> NDArray[np.int64]:
    """Cut ``tokens`` into rows of ``length``, each headed by ``bos``; a short last row is left out.

    Returns [rows, length]; length - 1 new tokens a row.
    """
    rows = len(tokens) // (length - 1)
    cut = tokens[: rows * (length - 1)].reshape(rows, length - 1)
    return np.concatenate([np.full((rows, 1), bos), cut], 1)


def train(
    network: Network,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    settings: Settings,
    *,
    context: int,
    starts: NDArray[np.int64],
    bos: int,
    on_best: Callable[[Progress], None],
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Train ``network`` in place -> the best progress.

    Every sequence is a ``bos`` and what follows in ``training``: half of them from one of
    ``starts`` (where a sentence begins, as a prompt does), half from anywhere.

    Parameters
    ----------
    training : array [tokens]
    held_out : array [rows, context]
        As from :func:`windows`.
    on_best : callable
        Called whenever the held-out loss is the lowest so far.
    """
    rng = np.random.default_rng(settings.seed)
    decayed = [p for p in network.parameters() if p.dim() == 2]
    others = [p for p in network.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.95),
    )
    limit = len(training) - context
    starts = starts[starts < limit]
    begun = time.monotonic()
    best: Progress | None = None
    losses: list[float] = []
    step = 0
    while True:
        minutes = (time.monotonic() - begun) / 60
        done = max(step / settings.steps, minutes / settings.minutes)
        if step % settings.evaluate_every == 0 or done >= 1:
            recent = float(np.mean(losses)) if losses else math.nan
            progress = Progress(step, minutes, recent, evaluate(network, held_out))
            losses.clear()
            on_progress(progress)
            if best is None or progress.held_out_loss < best.held_out_loss:
                best = progress
                on_best(progress)
            if done >= 1:
                return best
        cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        rate = settings.final_rate + (settings.rate - settings.final_rate) * cosine
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / settings.warmup)
        if step % settings.long_every == 0:
            length, batch = context, settings.batch
        else:
            length, batch = context // 2, settings.batch * 2
        half = batch // 2
        places = np.concatenate([rng.choice(starts, half), rng.integers(0, limit, batch - half)])
        rows = training[places[:, None] + np.arange(length)]
        inputs = np.concatenate([np.full((batch, 1), bos), rows[:, :-1]], 1)
        logits = network(torch.from_numpy(inputs))
        loss = functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(rows).flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        losses.append(loss.item())
        step += 1


@torch.no_grad()
def evaluate(network: Network, rows: NDArray[np.int64], batch: int = 8) -> float:
    """Mean loss, in nats per token, of every token of ``rows`` but the first."""
    total = 0.0
    for first in range(0, len(rows), batch):
        part = torch.from_numpy(rows[first : first + batch])
        logits = network(part[:, :-1]).flatten(0, 1)
        loss = functional.cross_entropy(logits, part[:, 1:].flatten(), reduction="sum")
        total += loss.item()
    return total / rows[:, 1:].size
