# SPDX-License-Identifier: BSD-2-Clause
"""Collectives: results of each algorithm and operation equal NumPy's, cycles are as predicted.

Mutations that were seen to fail: a last group of two-phase that does not wait (32 cycles more than
predicted).
"""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.mesh.fabric import Combine
from diptych_sim.account.mesh_kernels import account_collective
from diptych_sim.compiler.collectives.compile import (
    ALGORITHMS,
    Collective,
    compile_collective,
    expected_results,
)
from diptych_sim.compiler.collectives.plan import CollectiveError
from diptych_sim.compiler.tile.routes import check_routes
from diptych_sim.cost.collectives import choose, predict, published_cycles
from diptych_sim.engine.names import Engine
from diptych_sim.golden import fabric
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.collective import collective, random_vectors

OPERATIONS = ("broadcast", "reduce", "allreduce")


def build(operation: Any = "allreduce", algorithm="fabric", size=(3, 5), words=6, **more):
    return Collective(
        operation=operation,
        algorithm=algorithm,
        rows=size[0],
        columns=size[1],
        words=words,
        **more,
    )


def check(c, seed=1, engine: Engine = "verilator"):
    done = collective(c, random_vectors(c, seed), backend=mesh_backend(engine))
    assert done.matches_golden, c
    accounts = account_collective(done)
    cycles, predicted = accounts["cycles"], accounts["predicted_cycles"]
    # In these several colors want one link or combiner at a time, which the model does not know.
    shares = c.algorithm in ("tree", "two-phase")
    assert predicted <= cycles <= predicted * (1.4 if shares else 1), c
    assert cycles >= accounts["bound_cycles"]
    return accounts


# More than ten colors, and so a tile of its own.
WIDE = ("allreduce", "two-phase")
CASES = [
    pytest.param(*case, marks=pytest.mark.slow if case == WIDE else ())
    for case in itertools.product(OPERATIONS, ALGORITHMS)
]


@pytest.mark.parametrize(("operation", "algorithm"), CASES)
def test_results_and_cycles(operation, algorithm):
    check(build(operation, algorithm))


@pytest.mark.parametrize("over", ["rows", "columns"])
def test_rows_and_columns_by_themselves(over):
    check(build("allreduce", "fabric", over=over))
    check(build("reduce", "two-phase", over=over, combine=Combine.MAX))


@pytest.mark.parametrize("operation", ["reduce", "allreduce"])
def test_arg_max_in_the_fabric(operation):
    check(build(operation, words=12, combine=Combine.ARGMAX))


def test_maximum_through_cores():
    check(build("reduce", "chain", combine=Combine.MAX))


def test_judged_cycles_of_short_lines():
    words, count = 16, 5
    broadcast = check(build("broadcast", size=(1, count), words=words))["cycles"]
    assert broadcast <= words + count + 12
    everywhere = check(build("allreduce", size=(1, count), words=words))["cycles"]
    assert everywhere <= 1.1 * (2 * count + words) + 24


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_hops_of_two_cycles(operation, algorithm):
    check(build(operation, algorithm, hop_cycles=2))


@pytest.mark.slow
def test_judged_cycles_of_64_tiles():
    """A published model says 442 cycles for the chain and 247 for two-phase; ours has longer ramps.

    On lanes, which are as Verilator in every cycle (``test_lanes``), and cost a tenth.
    """
    for algorithm, published, most in (
        ("chain", 442, 574),
        ("two-phase", 247, 296),
        ("fabric", None, 202),
    ):
        c = build("reduce", algorithm, size=(1, 64), words=64)
        assert check(c, engine="lanes")["cycles"] <= most
        assert published_cycles(c) == published
    c = build("broadcast", size=(1, 64), words=512)
    assert check(c, engine="lanes")["cycles"] <= 512 + 64 + 12
    for words in (1, 64, 512):
        c = build("allreduce", size=(1, 64), words=words)
        cycles = check(c, engine="lanes")["cycles"]
        assert cycles <= 1.1 * (2 * 64 + words) + 24


@settings(deadline=None)
@given(
    st.sampled_from(OPERATIONS),
    st.sampled_from(ALGORITHMS),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["mesh", "rows", "columns"]),
)
def test_every_plan_has_routes_that_work(operation, algorithm, rows, columns, over):
    c = build(operation, algorithm, size=(rows, columns), words=2, over=over)
    compiled = compile_collective(c, random_vectors(c, 1))
    check_routes(compiled.plan.tables())
    if rows * columns > 1 or algorithm == "fabric":
        assert predict(c) >= 0


def test_auto_takes_the_fastest():
    c = build("reduce", size=(1, 16), words=32)
    best = choose(c)
    assert predict(best) == min(predict(replace(c, algorithm=a)) for a in ALGORITHMS)
    assert choose(replace(c, combine=Combine.ARGMAX)).algorithm == "fabric"


def test_numpy_agrees_with_the_golden_model():
    """Two specifications of arg-max, maximum and sum: by NumPy, and word by word."""
    c = build(words=8, combine=Combine.ARGMAX)
    vectors = random_vectors(c, 3)
    result = expected_results(c, vectors)[0][0, 0]
    flat = vectors.reshape(-1, 8)
    for at in range(0, 8, 2):
        pairs = [(int(v[at]), int(v[at + 1])) for v in flat]
        assert (int(result[at]), int(result[at + 1])) == fabric.arg_max(pairs)
    for combine, golden in ((Combine.ADD, fabric.add), (Combine.MAX, fabric.maximum)):
        result = expected_results(replace(c, combine=combine), vectors)[0][0, 0]
        assert [int(v) for v in result] == [golden(map(int, flat[:, n])) for n in range(8)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"algorithm": "tree", "combine": Combine.ARGMAX},
            r"^Algorithm of an arg-max must be fabric, not tree$",
        ),
        (
            {"words": 3, "combine": Combine.ARGMAX},
            r"^Words of an arg-max must be pairs of key and index, not 3$",
        ),
    ],
)
def test_refuses_what_there_is_not(parameters, message):
    with pytest.raises(CollectiveError, match=message):
        build(**parameters)


def test_refuses_what_does_not_fit():
    c = build(words=3073)
    message = (
        r"^Words must be at most 3072, as a vector and its result must fit into 24576 bytes, "
        r"not 3073$"
    )
    with pytest.raises(CollectiveError, match=message):
        compile_collective(c, np.zeros((3, 5, 3073), np.uint32))
