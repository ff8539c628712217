# SPDX-License-Identifier: BSD-2-Clause
"""The decode panel against the golden model: every token, on meshes of several shapes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from diptych.mesh.panel import DecodePanel
from diptych_sim.compiler.decode import compile_decode
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.simulate import simulate
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.llm.model import ModelConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "compiler"))
from random_model import random_model

TINY = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)


def decode(model, rows, columns, prompt, tokens, folder, *, sram_bytes=16384, on_event=None):
    """Run prefill in the golden model and decode in the hardware."""
    golden = GoldenMachine(model)
    expected = list(golden.generate(prompt, tokens))
    golden.reset()
    golden.next_token(prompt)
    program = compile_decode(
        model, rows, columns, prompt_tokens=len(prompt), tokens=tokens, sram_bytes=sram_bytes
    )
    load = []
    for row in range(rows):
        words = program.load_packets(row)
        for layer, cache in enumerate(golden.cache):
            for position in range(len(prompt)):
                words += program.layout.packets(
                    row, layer, position, cache.keys[position], cache.values[position]
                )
        load.append(words + program.start_packets(expected[0]))
    job = folder / "decode.json"
    limit = 2 * max(map(len, load)) * 4 + 100_000
    job.write_text(json.dumps({"load": load, "tokens": expected[1:], "limit": limit}))
    return simulate(
        DecodePanel(rows, columns, sram_bytes=sram_bytes),
        name="decode_panel",
        test_module="diptych_tb.mesh.decode",
        env={"DIPTYCH_DECODE": job},
        options=BuildOptions(shared=("tile",)),
        on_event=on_event,
    )


@pytest.mark.parametrize("mesh", [(2, 2), (3, 2)])
def test_tokens_equal_the_golden_model(mesh, tmp_path):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    decode(random_model(TINY, 1), *mesh, prompt, 6, tmp_path)
