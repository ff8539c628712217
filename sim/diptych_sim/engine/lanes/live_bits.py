# SPDX-License-Identifier: BSD-2-Clause
"""Finds the bits of a netlist that something depends on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .netlist import Design, nir

__all__ = ["demanded"]

_LOW = ("+", "-", "*", "<<")
_SAME = ("&", "|", "^", "~")


def _inputs(cell: Any, before: int, need: int) -> Iterator[int]:
    """Yield the nets that needed bits of a cell depend on, but for those that were needed before."""
    fresh = need & ~before
    if isinstance(cell, nir.Operator):
        for number, value in enumerate(cell.inputs):
            if cell.operator in _SAME or (cell.operator == "m" and number):
                yield from _of(value, fresh)
            elif cell.operator in _LOW and not (cell.operator == "<<" and number):
                yield from map(int, value[before.bit_length() : need.bit_length()])
            elif not before:
                yield from map(int, value)
    elif isinstance(cell, nir.AssignmentList):
        yield from _of(cell.default, fresh)
        for item in cell.assignments:
            inside = fresh >> item.start & (1 << len(item.value)) - 1
            if inside:
                yield int(item.cond)
                yield from _of(item.value, inside)
    elif not before:
        yield from map(int, cell.input_nets())


def _of(value: Any, mask: int) -> Iterator[int]:
    return (int(net) for bit, net in enumerate(value) if mask >> bit & 1)


def demanded(design: Design) -> dict[int, int]:
    """Return a mask of needed output bits by cell; all state is needed."""
    need: dict[int, int] = {}
    seen: dict[int, int] = {}
    waiting: list[int] = []

    def demand(nets: Iterable[int]) -> None:
        for net in nets:
            cell, bit = net >> 16, net & 0xFFFF
            have = need.get(cell, 0)
            if cell and not have >> bit & 1:
                if have == seen.get(cell, 0):
                    waiting.append(cell)
                need[cell] = have | 1 << bit

    kinds = (nir.FlipFlop, nir.SyncReadPort, nir.SyncWritePort, nir.SyncProperty)
    for cell in design.cells:
        if isinstance(cell, kinds):
            demand(map(int, cell.input_nets()))
    for port in design.outputs.values():
        demand(port.nets)
    while waiting:
        index = waiting.pop()
        before, seen[index] = seen.get(index, 0), need[index]
        demand(_inputs(design.cells[index], before, need[index]))
    return need
