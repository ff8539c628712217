# SPDX-License-Identifier: BSD-2-Clause
"""The matrix engine: sums equal NumPy's, cycles equal the contract, causes sum to the cycles.

Mutations that were tried by hand, each seen to fail: rows that are skipped in one product of planes
and not in the next; sums of skipped rows; unsigned activations; weights that do not load while
rows pass; a mask ignored; a cause left out; lines of a group that end with its first; a causal
product that does not end early, or counts positions by rows; a start for the first column only; the
next column from the last tile; reads beyond what the pieces hold. Of causes: shifting and waiting
exchanged; the last cycle of draining left out; waits for other engines in another order.
"""

from functools import partial

import pytest

from diptych.systolic.matrix import MatrixEngine
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("rows", "columns", "group"),
    [(4, 4, 1), (8, 4, 2), (4, 8, 1), pytest.param(16, 16, 4, marks=pytest.mark.slow)],
)
def test_runs_commands(rows, columns, group):
    sizes = {
        "rows": rows,
        "columns": columns,
        "scratchpad": 2**12,
        "accumulators": 128,
        "weight_rows": group,
    }
    name = f"matrix_{rows}x{columns}"
    ran = simulate(
        partial(MatrixEngine, **sizes),
        name=name,
        test_module="diptych_tb.systolic.matrix",
        options=RANDOM_START,
        env={f"DUT_{what.upper()}": size for what, size in sizes.items()},
        public=[(name, "count_*"), (name, "bytes_*")],
    )
    assert_ran(
        ran,
        "sums_equal_the_model",
        "lone_commands_take_the_promised_cycles",
        "weights_of_the_next_command_load_behind_the_rows",
    )
