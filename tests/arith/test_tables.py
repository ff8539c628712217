# SPDX-License-Identifier: BSD-2-Clause
"""The hardware's tables: the golden model's, and what fits their segments."""

from typing import Any

import pytest

from diptych.arith import scale, tables
from diptych_sim.golden import numbers


@pytest.mark.parametrize(
    ("table", "golden"),
    [
        (tables.RECIPROCAL, numbers.RECIPROCAL_TABLE),
        (tables.RSQRT, numbers.RSQRT_TABLE),
        (tables.EXPONENTIAL, numbers.EXP_TABLE),
        (tables.SIGMOID, numbers.SIGMOID_TABLE),
    ],
)
def test_table_is_the_golden_one(table, golden):
    assert list(table) == golden.tolist()
    for segment in tables.segments(table):
        fields: Any = segment  # a name each, which the stubs of Amaranth do not take
        constant = tables.Segment.const(fields)
        assert (constant.knot, constant.step) == (segment["knot"], segment["step"])


def test_unity_is_the_golden_one():
    fields: Any = scale.UNITY
    assert scale.ScaleWord.const(fields).as_value().value == numbers.UNITY
