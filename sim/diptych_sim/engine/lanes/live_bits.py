# SPDX-License-Identifier: BSD-2-Clause
"""Finds the bits of a netlist that something depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .netlist import Design, nir

__all__ = ["demanded"]

_LOW = ("+", "-", "*", "<<")
_SAME = ("&", "|", "^", "~")


def _inputs(cell: Any, need: int) -> Iterator[int]:
    """Yield the nets that the needed bits of a cell depend on."""
    if isinstance(cell, nir.Operator):
        for number, value in enumerate(cell.inputs):
            if cell.operator in _SAME or (cell.operator == "m" and number):
                yield from (int(net) for bit, net in enumerate(value) if need >> bit & 1)
            elif cell.operator in _LOW and not (cell.operator == "<<" and number):
                yield from map(int, value[: need.bit_length()])
            else:
                yield from map(int, value)
    elif isinstance(cell, nir.AssignmentList):
        yield from (int(net) for bit, net in enumerate(cell.default) if need >> bit & 1)
        for item in cell.assignments:
            inside = need >> item.start & (1 << len(item.value)) - 1
            if inside:
                yield int(item.cond)
                yield from (int(net) for bit, net in enumerate(item.value) if inside >> bit & 1)
    else:
        yield from map(int, cell.input_nets())


def demanded(design: Design) -> dict[int, int]:
    """Return a mask of needed output bits by cell; all state is needed."""
    need: dict[int, int] = {}
    waiting: list[int] = []

    def demand(net: int) -> None:
        cell = net >> 16
        mask = 1 << (net & 0xFFFF)
        if cell and not need.get(cell, 0) & mask:
            need[cell] = need.get(cell, 0) | mask
            waiting.append(cell)

    kinds = (nir.FlipFlop, nir.SyncReadPort, nir.SyncWritePort, nir.SyncProperty)
    for cell in design.cells:
        if isinstance(cell, kinds):
            for net in cell.input_nets():
                demand(int(net))
    for port in design.outputs.values():
        for net in port.nets:
            demand(net)
    while waiting:
        index = waiting.pop()
        for net in _inputs(design.cells[index], need[index]):
            demand(net)
    return need
