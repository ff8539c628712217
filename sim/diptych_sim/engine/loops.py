# SPDX-License-Identifier: BSD-2-Clause
"""A faster search for combinational loops than Amaranth's, with the same outcome.

Amaranth follows each bit, which takes long. Cells are far fewer: if they can be ordered, so can their
bits. Only if they cannot, Amaranth searches, and tells the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from typing import Any
from unittest.mock import patch

from amaranth.hdl import _nir as nir

__all__ = ["loops_by_cells"]

_SEARCH: Callable[[Any], None] = nir.Netlist.check_comb_cycles  # pyright: ignore
_STATES = (nir.Top, nir.FlipFlop, nir.Memory, nir.SyncReadPort, nir.SyncWritePort, nir.Instance)
"""Cells none of whose outputs depends on an input in the same cycle, but on an asynchronous reset."""


@contextmanager
def loops_by_cells() -> Iterator[None]:
    """Have netlists that are built meanwhile searched in this way."""
    with patch.object(nir.Netlist, "check_comb_cycles", _check):
        yield


def _check(netlist: Any) -> None:
    order: TopologicalSorter[int] = TopologicalSorter()
    states = [_is_state(cell) for cell in netlist.cells]
    for index, cell in enumerate(netlist.cells):
        if states[index]:
            continue
        for net in cell.input_nets():
            found = netlist.resolve_net(net)
            if not found.is_const and not states[found.cell]:
                order.add(index, found.cell)
    try:
        order.prepare()
    except CycleError:
        _SEARCH(netlist)


def _is_state(cell: Any) -> bool:
    return isinstance(cell, _STATES) and not getattr(cell, "arst", 0)
