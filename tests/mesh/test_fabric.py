# SPDX-License-Identifier: BSD-2-Clause
"""The table of directions: a neighbor's link leads back."""

import pytest

from diptych.mesh.fabric import DIRECTION_NAMES, DIRECTIONS, PORT_NAMES, Port


def test_opposite_leads_back():
    for port in DIRECTIONS:
        down, right = port.step
        assert port.opposite.opposite is port
        assert port.opposite.step == (-down, -right)


def test_north_is_up_and_east_is_right():
    assert Port.NORTH.step == (-1, 0)
    assert Port.EAST.step == (0, 1)


def test_names_follow_the_numbers():
    assert PORT_NAMES == ("north", "east", "south", "west", "ramp")
    assert PORT_NAMES[:4] == DIRECTION_NAMES
    assert [int(port) for port in DIRECTIONS] == [0, 1, 2, 3]


def test_ramp_is_no_direction():
    with pytest.raises(KeyError):
        _ = Port.RAMP.step
    with pytest.raises(KeyError):
        _ = Port.RAMP.opposite
