# SPDX-License-Identifier: BSD-2-Clause
"""Translates a component to C++ for lanes."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.lib import wiring

from .clusters import plan
from .emit import emit
from .interface import Interface
from .layout import lay_out
from .lower import lower
from .netlist import read_netlist
from .partition import partition

__all__ = ["Pairs", "translate"]

Pairs = Sequence[tuple[str, str]]
"""Inputs, and the outputs of a neighbor that they are wired to."""


def translate(
    component: wiring.Component, name: str, pairs: Pairs, lanes: int
) -> tuple[Interface, str]:
    """Return what is to be known of a component, and its C++, for so many lanes in a block.

    Raises
    ------
    NetlistError
        If lanes cannot run it.
    """
    design = read_netlist(component, name)
    low = lower(design, partition(design, list(pairs)))
    parts = plan(low)
    layout = lay_out(low, lanes, parts.together())
    return Interface.of(low, layout), emit(low, parts, layout)
