# SPDX-License-Identifier: BSD-2-Clause
"""Commands that run the mesh give the same on lanes as in Verilator."""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych.mesh.fabric import Combine
from diptych_sim.account.mesh_kernels import account_collective, account_kernel
from diptych_sim.compiler.collectives.compile import Collective
from diptych_sim.engine.names import ENGINES
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.collective import collective, random_vectors
from diptych_sim.run.generate import generate
from diptych_sim.run.mesh_gemm import mesh_gemm
from diptych_sim.run.mesh_gemv import gemv
from support.random_model import TINY, random_model


def product(engine):
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, 40).astype(np.int8)
    w = rng.integers(-128, 128, (7, 40)).astype(np.int8)
    return gemv(x, w, mesh=(2, 2), backend=mesh_backend(engine))


def matrices(engine):
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (24, 24)).astype(np.int8)
    w = rng.integers(-128, 128, (24, 24)).astype(np.int8)
    return mesh_gemm(x, w, mesh=(3, 3), backend=mesh_backend(engine))


def decode(engine):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    return generate(
        random_model(TINY, 1),
        [prompt],
        [6],
        machine=MachineConfig(mesh=(2, 2)),
        stage="decode",
        engine=engine,
    )


def gathered(engine, operation, algorithm, combine):
    c = Collective(
        operation=operation, algorithm=algorithm, rows=3, columns=5, words=6, combine=combine
    )
    return collective(c, random_vectors(c, 1), backend=mesh_backend(engine))


@pytest.mark.slow
@pytest.mark.parametrize("run", [product, matrices])
def test_products_agree(run):
    done = [run(engine) for engine in ENGINES]
    assert done[0].matches_golden
    assert done[1].matches_golden
    assert account_kernel(done[0].kernel) == account_kernel(done[1].kernel)


def test_decodes_agree():
    seen = []
    for engine in ENGINES:
        done = decode(engine)
        assert done.matches_golden
        seen.append([{k: v for k, v in event.items() if k != "wall"} for event in done.events])
    # Also the counters of all tiles, when decoding starts and at the end.
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("operation", "algorithm", "combine"),
    [
        pytest.param("broadcast", "fabric", Combine.ADD, marks=pytest.mark.slow),
        pytest.param("reduce", "chain", Combine.MAX, marks=pytest.mark.slow),
        pytest.param("allreduce", "two-phase", Combine.ADD, marks=pytest.mark.slow),
        pytest.param("allreduce", "fabric", Combine.ARGMAX, marks=pytest.mark.slow),
    ],
)
def test_collectives_agree(operation, algorithm, combine):
    done = [gathered(engine, operation, algorithm, combine) for engine in ENGINES]
    assert done[0].matches_golden
    assert done[1].matches_golden
    assert account_collective(done[0]) == account_collective(done[1])
