# SPDX-License-Identifier: BSD-2-Clause
# pyright: reportMissingImports=false
# Only the recipe needs torch, which the development tools leave out.
"""Train the bundled model, and write its files and its card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from diptych_sim.llm.load import BUILTIN_FOLDER
from diptych_sim.llm.model import ModelConfig
from diptych_sim.train import card, corpus, export, loop, vocabulary
from diptych_sim.train.network import Network

CONFIG = ModelConfig(dim=64, hidden=172, layers=5, heads=8, kv_heads=4, vocab=512, context=512)


def sentence_starts(tokenizer: Tokenizer, texts: Sequence[Sequence[int]]) -> list[int]:
    """Where a sentence begins in the stream of ``texts``, counted in tokens."""
    ends = {number for token, number in tokenizer.get_vocab().items() if token[-1] in ".?!"}
    starts: list[int] = []
    at = 0
    for text in texts:
        starts.append(at + 1)
        starts += [at + 2 + i for i, token in enumerate(text[:-1]) if token in ends]
        at += 1 + len(text)
    return starts


def train(cache: Path, settings: loop.Settings) -> None:
    """Train, leaving ``tokenizer.json``, ``best.pt`` and ``best.json`` in ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)
    text = corpus.load(cache)
    print(f"corpus {corpus.digest(text)}", flush=True)
    if corpus.digest(text) != corpus.DIGEST:
        print("The archive's text has changed since the model was trained", file=sys.stderr)
    tokenizer = vocabulary.learn(text.training, CONFIG.vocab)
    tokenizer.save(str(cache / "tokenizer.json"))

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    bos = vocabulary.BOS_ID
    training = encode(text.training)
    torch.manual_seed(settings.seed)
    network = Network(CONFIG)

    def on_best(progress: loop.Progress) -> None:
        torch.save(network.state_dict(), cache / "best.tmp")
        (cache / "best.tmp").replace(cache / "best.pt")
        record = {"settings": asdict(settings), "progress": asdict(progress)}
        (cache / "best.json").write_text(json.dumps(record, indent=2) + "\n")

    def on_progress(progress: loop.Progress) -> None:
        print(
            f"step {progress.step:5}  {progress.minutes:5.1f} min  "
            f"training {progress.training_loss:.4f}  held-out {progress.held_out_loss:.4f}",
            flush=True,
        )

    loop.train(
        network,
        loop.stream(training, bos),
        loop.windows(loop.stream(encode(text.held_out), bos), CONFIG.context, bos),
        settings,
        context=CONFIG.context,
        starts=np.asarray(sentence_starts(tokenizer, training)),
        bos=bos,
        on_best=on_best,
        on_progress=on_progress,
    )


def write(cache: Path, folder: Path) -> None:
    """Write the best model that is in ``cache`` to ``folder``."""
    text = corpus.load(cache)
    state = torch.load(cache / "best.pt", weights_only=True)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    export.write_model(folder, CONFIG, arrays, cache / "tokenizer.json", text)
    card.write_card(folder, json.loads((cache / "best.json").read_text()), text)
    print(f"Written to {folder}")


def main() -> None:
    """Read the arguments, train, and write the files."""
    parser = argparse.ArgumentParser(prog="python -m diptych_sim.train", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("build/model"))
    parser.add_argument("--steps", type=int, default=loop.Settings.steps)
    parser.add_argument("--minutes", type=float, default=loop.Settings.minutes)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=BUILTIN_FOLDER)
    parser.add_argument("--export-only", action="store_true", help="write the cache's best so far")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.export_only:
        train(arguments.cache, loop.Settings(steps=arguments.steps, minutes=arguments.minutes))
    write(arguments.cache, arguments.out)


if __name__ == "__main__":
    main()
