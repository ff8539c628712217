# SPDX-License-Identifier: BSD-2-Clause
"""Random routes with forks, combines and switches: every wavelet where it belongs, in order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.simulate import simulate
from diptych_tb.mesh.network import RouterMesh, random_tables
from support.testbench import assert_ran

COLORS = 8


@pytest.mark.parametrize(
    ("size", "hop"), [((3, 3), 1), pytest.param((2, 4), 2, marks=pytest.mark.slow)]
)
def test_nothing_is_lost_doubled_reordered_or_misled(size, hop):
    ran = simulate(
        RouterMesh(*size, colors=COLORS, hop_cycles=hop),
        name=f"router_mesh_{size[0]}_{size[1]}",
        test_module="diptych_tb.mesh.traffic",
        env={"DUT_SIZE": f"{size[0]}x{size[1]}", "DUT_COLORS": COLORS},
        options=BuildOptions(shared=("router",)),
    )
    assert_ran(ran, "nothing_is_lost_doubled_reordered_or_misled")


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_random_routes_pass_the_checker(seed, rows, columns):
    random_tables(random.Random(seed), rows, columns, COLORS)
