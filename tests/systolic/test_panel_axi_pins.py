# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel on a memory model of others: cocotbext-axi's AxiRam, through AXI4 pins."""

import json
from functools import partial

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych.systolic.panel_axi_pins import PrefillWithPins
from diptych_sim.compiler.prefill.compile import compile_prefill
from diptych_sim.cost.array_gemm import fastest_gemm
from diptych_sim.engine.simulate import simulate
from support.golden_handoff import expected_handoff
from support.random_model import TINY, random_model
from support.testbench import assert_ran


def run(program, folder, *, handoff=(), memory=()):
    job = folder / "job.json"
    fields = {
        "hbm": program.hbm.hex(),
        "program": program.start,
        "limit": 500_000,
        "handoff": handoff,
        "memory": memory,
    }
    job.write_text(json.dumps(fields))
    ran = simulate(
        partial(PrefillWithPins, 4, 4),
        name="prefill_with_pins",
        public=[("prefill_with_pins", "hbm__*")],
        test_module="diptych_tb.systolic.foreign_memory",
        env={"DIPTYCH_FOREIGN": job},
    )
    assert_ran(ran, "runs_a_program")


@pytest.mark.slow
def test_a_product_from_memory_to_memory(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (9, 21)).astype(np.int8)
    w = rng.integers(-128, 128, (21, 35)).astype(np.int8)
    bias = rng.integers(-(2**31), 2**31, 35).astype(np.int32)
    compiled, _ = fastest_gemm(x, w, bias, MachineConfig(array=(4, 4)))
    sums = (x.astype(np.int64) @ w.astype(np.int64) + bias) % 2**32
    memory = [
        (compiled.result + row * compiled.pitch, sums[row].astype("<u4").tobytes().hex())
        for row in range(9)
    ]
    run(compiled.program, tmp_path, memory=memory)


@pytest.mark.slow
def test_a_prefill(tmp_path):
    model = random_model(TINY, 1)
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 7).tolist()
    run(compile_prefill(model, 4, 4, prompt), tmp_path, handoff=expected_handoff(model, prompt))
