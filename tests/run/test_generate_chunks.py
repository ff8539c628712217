# SPDX-License-Identifier: BSD-2-Clause
"""A whole machine that reads prompts in chunks: array, link and mesh.

Faults that were planted, each seen to fail: a link that counts positions from 0 for each layer; rows
that are loaded while the chunk before still uses their states.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych.systolic.isa import Queue, StoreOp
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from support.random_model import random_model

WIDE = ModelConfig(dim=64, hidden=1400, layers=2, heads=8, kv_heads=4, vocab=512, context=256)
"""So many hidden elements that vector memory holds 88 rows."""


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("engine", "lengths"),
    [("lanes", (90,)), slow("lanes", (30, 100)), slow("verilator", (90,))],
)
def test_text_and_tiles_are_golden(engine, lengths):
    model = random_model(WIDE, 1)
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, WIDE.vocab, n).tolist() for n in lengths]
    done = generate(
        model,
        prompts,
        [3] * len(prompts),
        machine=MachineConfig(mesh=(8, 8), array=(16, 16)),
        engine=engine,
        trace=False,
    )
    assert done.difference is None
    assert done.prefill is not None
    stores = [c for c in done.prefill.commands.commands if c.queue is Queue.STORE]
    assert any(c.op == StoreOp.HBM.value for c in stores)
    # Layers of each chunk, in order.
    chunks = 2 if len(lengths) == 1 else 3
    layers = [event for event in done.events if event["kind"] == "layer"]
    assert [event["layer"] for event in layers] == list(range(chunks * WIDE.layers))
