# SPDX-License-Identifier: BSD-2-Clause
"""Products from HBM to HBM: bit-exact and never hung, whatever the shape and the memory.

Mutations of the compiler that were tried by hand, each seen to fail: products that do not wait for
their loads, or stores for their products.
"""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.config import MachineConfig
from diptych.systolic.panel import PrefillPanel
from diptych_sim.command.mesh_gemm import random_activations
from diptych_sim.cost.array_gemm import fastest_gemm
from diptych_sim.engine.build import build
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.simulate import run

SIDE, GROUP = 8, 2
NAME = "prefill_panel"
# The simulator is one of all examples, and each of them takes long.
SUPPRESSED = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.data_too_large,
    HealthCheck.too_slow,
]


@pytest.fixture(scope="module")
def panel():
    return build(
        emit_verilog(partial(PrefillPanel, SIDE, SIDE, weight_rows=GROUP), NAME), name=NAME
    )


def job(shape, *, seed, bias, bits, group, latency, rate, stall):
    """Return a product of random matrices as the testbench wants it."""
    m, k, n = shape
    rng = np.random.default_rng(seed)
    x = random_activations(rng, (m, k), bits)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    biases = rng.integers(-(2**31), 2**31, n).astype(np.int32) if bias else None
    compiled, cost = fastest_gemm(
        x,
        w,
        biases,
        MachineConfig(
            array=(SIDE, SIDE),
            weight_rows=group,
            hbm_latency=max(4, latency),  # for the plan
            hbm_bytes_per_cycle=rate,
        ),
    )
    expected = x.astype(np.int64) @ w.astype(np.int64) + (biases if biases is not None else 0)
    beats = len(compiled.program.hbm) // 64 + 1000
    return {
        "shape": [*shape, int(bias), group],
        "hbm": compiled.program.hbm.hex(),
        "program": compiled.program.start,
        "limit": 10_000 + 4 * cost.predicted_cycles + 20 * beats * (64 // rate + latency),
        "latency": latency,
        "rate": rate,
        "stall": stall,
        "result": compiled.result,
        "pitch": compiled.pitch,
        "rows": [row.astype("<u4").tobytes().hex() for row in expected % 2**32],
    }


sides = st.one_of(st.integers(1, 20), st.sampled_from([1, 7, 8, 9, 16, 24, 33, 64, 65]))
jobs = st.builds(
    job,
    st.tuples(sides, sides, sides),
    seed=st.integers(0, 2**32 - 1),
    bias=st.booleans(),
    bits=st.sampled_from([8, 12]),
    group=st.sampled_from([1, GROUP]),
    latency=st.integers(1, 300),
    rate=st.sampled_from([1, 5, 16, 63, 64]),
    stall=st.sampled_from([0.0, 0.2, 0.7]),
)


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=SUPPRESSED,
)
@given(st.lists(jobs, min_size=6, max_size=6))
def test_products_are_exact_on_any_memory(panel, tmp_path, drawn):
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps(drawn))
    run(panel, test_module="diptych_tb.systolic.gemm_jobs", env={"DIPTYCH_JOBS": path})


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=SUPPRESSED)
@given(st.lists(jobs, min_size=10, max_size=10))
def test_many_products_are_exact_on_any_memory(panel, tmp_path, drawn):
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps(drawn))
    run(panel, test_module="diptych_tb.systolic.gemm_jobs", env={"DIPTYCH_JOBS": path})
