# SPDX-License-Identifier: BSD-2-Clause
"""The roofline picture: each point is in it, where its numbers put it."""

import re
from xml.etree import ElementTree

import pytest

from diptych_sim.report.roofline import Roof, roofline_svg

POINTS = [("ridge", 4.0, 256.0), ("half", 4.0, 128.0), ("low", 1.0, 64.0)]
SVG = "{http://www.w3.org/2000/svg}"


def places(svg):
    """Return where each point is, in the order in which they were given."""
    root = ElementTree.fromstring(svg)
    marks = [g for g in root.iter(f"{SVG}g") if "role-mark" in g.get("class", "")]
    symbols = [g for g in marks if "mark-symbol" in g.get("class", "")]
    return [
        tuple(float(n) for n in re.findall(r"-?[\d.]+", path.get("transform", "")))
        for group in symbols
        for path in group.iter(f"{SVG}path")
    ]


def test_points_are_where_their_numbers_put_them():
    svg = roofline_svg(POINTS, Roof(peak=256, bandwidth=64))
    for name, _, _ in POINTS:
        assert f">{name}<" in svg
    ridge, half, low = places(svg)
    assert ridge[0] == half[0] > low[0]
    # Logarithmic axes: a factor of 2 is as far at any place. SVG counts downwards.
    assert low[1] - half[1] == pytest.approx(half[1] - ridge[1], abs=1e-3)
    assert half[1] > ridge[1]


@pytest.mark.parametrize(
    ("points", "peak", "message"),
    [
        ([], 256, "Roofline must have at least one point, not none"),
        (POINTS, 0, "Peak must be above 0, not 0"),
        ([("a", 0, 1)], 256, "Intensity of a must be above 0, not 0.0"),
        ([("a", 1, -2)], 256, "MACs a cycle of a must be above 0, not -2.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(points, peak, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        roofline_svg(points, Roof(peak=peak, bandwidth=64))
