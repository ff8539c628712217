# SPDX-License-Identifier: BSD-2-Clause
"""Runs of a small model on a small machine, with the folder and the result that the command writes."""

import json
from typing import Any

import numpy as np

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.report.sequences import joined
from diptych_sim.run.folder import RESULT, RunFolder, Samples, read_run
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model

__all__ = ["MACHINE", "TEXTS", "result_of", "samples_of", "write_run"]

MACHINE = MachineConfig(array=(8, 8), mesh=(2, 2))
TEXTS = ("A <b>prompt</b> & more", "Another")


def write_run(path, *, lengths=(9,), tokens=(4,), stage="all", **options):
    """Run prompts of some lengths, and write the run's folder; ``options`` go to the run."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, TINY.vocab, length).tolist() for length in lengths]
    texts = list(TEXTS[: len(lengths)])
    model = random_model(TINY, 3)
    config = {
        "model": "random",
        "prompt": texts[0] if len(texts) == 1 else texts,
        "array": "8x8",
        "mesh": "2x2",
        "sram_bytes": MACHINE.sram_bytes,
        "hbm_bytes_per_cycle": MACHINE.hbm_bytes_per_cycle,
        "hbm_latency": MACHINE.hbm_latency,
        "weight_rows": MACHINE.weight_rows,
        "link_bytes_per_cycle": MACHINE.link_bytes_per_cycle,
        "link_latency": MACHINE.link_latency,
        "stage": stage,
        "clock_mhz": 500.0,
    }
    options |= {
        "out": path,
        "about": {"config": config, "prompts": texts, "stop_ids": []},
        "text_of": lambda _, token: f" w{token}",
    }
    runs = "decode" if stage == "decode" else "all"
    done = generate(model, prompts, tokens, machine=MACHINE, stage=runs, **options)
    accounts = account(done, read_run(path), clock_mhz=500.0)
    sequences = [
        {
            "prompt": text,
            "prompt_tokens": len(each.prompt),
            "tokens": each.tokens,
            "text": "".join(f" w{token}" for token in each.tokens),
            "matches_golden": each.matches_golden,
            "tpot_cycles": each.cycles_per_token,
        }
        for text, each in zip(texts, done.sequences, strict=True)
    ]
    result = {
        **joined(sequences),
        "pieces": [event["text"] for event in done.events if event["kind"] == "token"],
        **accounts,
        "compared": {"tokens": len(done.tokens), **done.comparison.compared},
        "back_doors": [],
        "wall_seconds": done.run.seconds,
        "config": config | {"seed": done.run.seed},
    }
    assert result["matches_golden"]
    (path / RESULT).write_text(json.dumps(result))
    return read_run(path)


def result_of(run: RunFolder) -> dict[str, Any]:
    """Return the result of a complete run."""
    assert run.result is not None
    return run.result


def samples_of(run: RunFolder) -> tuple[Samples, Samples]:
    """Return the samples of the prefill panel and of the mesh of a run with a trace."""
    assert run.panel is not None
    assert run.mesh is not None
    return run.panel, run.mesh
