# SPDX-License-Identifier: BSD-2-Clause
"""The accumulators: sums in place, back to back, and reads beside them."""

from functools import partial

import pytest

from diptych.systolic.accumulator import Accumulators
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("columns", "depth"), [(4, 64), pytest.param(16, 4096, marks=pytest.mark.slow)]
)
def test_adds_up(columns, depth):
    name = f"accumulators_{columns}"
    ran = simulate(
        partial(Accumulators, columns=columns, depth=depth),
        name=name,
        test_module="diptych_tb.systolic.accumulators",
        options=RANDOM_START,
        env={"DUT_COLUMNS": columns, "DUT_DEPTH": depth},
        public=[(name, "conflicts_*")],
    )
    assert_ran(ran, "adds_up")
