# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The systolic array: sums of any order of weights, swaps and activations.

Mutations that were tried by hand, each seen to fail: a swap that takes the line beside it; activations
of 8 bits; swaps that skip a column; sums of 30 bits.
"""

import re
from functools import partial

import pytest

from diptych.systolic.array import SystolicArray
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("rows", "columns", "group"),
    [(4, 4, 1), (8, 4, 2), (4, 16, 4), pytest.param(16, 16, 1, marks=pytest.mark.slow)],
)
def test_sums_are_products(rows, columns, group):
    ran = simulate(
        partial(SystolicArray, rows=rows, columns=columns, weight_rows=group),
        name=f"array_{rows}_{columns}",
        test_module="diptych_tb.systolic.array",
        options=RANDOM_START,
        env={"DUT_ROWS": rows, "DUT_COLUMNS": columns, "DUT_WEIGHT_ROWS": group},
    )
    assert_ran(ran, "sums_are_products")


def test_refuses_other_extents():
    message = "Array rows must be a power of two from 4 to 128, not 3"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SystolicArray(rows=3, columns=4)
