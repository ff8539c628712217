# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The router: nothing lost, doubled, reordered or misled; rate, latency, fairness, switches.

Mutations that were tried by hand, each seen to fail: conflicts among announcements ignored; turns
reversed; a port that the combiner has taken given to another color; data read in the cycle in which
they are written; a control bit of another wavelet; a color that does not wait behind a control
wavelet, or goes on before that is announced; indices of keys that lost; ties that lose; no credits;
credits of a color by what left last as its name; a route after reset that leads elsewhere.
"""

from functools import partial

import pytest

from diptych.mesh.router import Router
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("colors", "positions", "hop"), [(10, 4, 1), pytest.param(24, 2, 2, marks=pytest.mark.slow)]
)
def test_routes(colors, positions, hop):
    ran = simulate(
        partial(Router, colors=colors, positions=positions, hop_cycles=hop),
        name="router",
        test_module="diptych_tb.mesh.router",
        options=RANDOM_START,
        env={"DUT_COLORS": colors, "DUT_POSITIONS": positions, "DUT_HOP": hop},
    )
    assert_ran(
        ran,
        "delivers_everything_once_and_in_order",
        "a_hop_takes_its_cycles_at_full_rate",
        "a_blocked_color_blocks_no_other",
        "colors_that_leave_as_one_need_their_own_credits",
        "colors_take_turns",
        "switches_take_turns_at_full_rate",
        "a_reset_routes_the_color_of_loading",
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"colors": 25}, r"^Number of colors must be in range\(1, 25\), not 25$"),
        ({"positions": 5}, r"^Number of switch positions must be in range\(1, 5\), not 5$"),
        ({"hop_cycles": 0}, r"^Cycles of a hop must be in range\(1, 3\), not 0$"),
    ],
)
def test_refuses_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Router(**parameters)
