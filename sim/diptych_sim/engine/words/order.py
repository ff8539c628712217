# SPDX-License-Identifier: BSD-2-Clause
"""The order in which cells can be computed, and how many of their bits are used."""

from __future__ import annotations

from collections import defaultdict

from .cells import Cell, Nets, Words, pieces

__all__ = ["in_order", "narrow", "producers"]

_BY_BIT = {"&", "|", "^", "~", "m", "assign"}
_FROM_BELOW = {"+", "-", "*", "<<"}


def producers(whole: Words, cell: Cell, outs: dict[int, int]) -> set[int]:
    """Return the cells that have to be computed before a cell in the same cycle.

    ``outs``: what computes the outputs of each group.
    """
    found = set()
    for index in {net >> 16 for nets in cell.inputs for net in nets if net > 1}:
        other = whole.cells[index]
        if other.kind == "lane":
            group, _, inner = other.place
            if not whole.groups[group].body.cells[inner].held:
                found.add(outs[group])
        elif not other.held:
            found.add(index)
    return found


def in_order(waits: dict[int, set[int]], cells: list[Cell]) -> list[int]:
    """Return cells so that each comes after those it waits for, those of a module together."""
    left = {cell: len(others) for cell, others in waits.items()}
    users: dict[int, list[int]] = defaultdict(list)
    for cell, others in waits.items():
        for other in others:
            users[other].append(cell)
    ready: dict[int, list[int]] = defaultdict(list)
    for cell, count in sorted(left.items(), reverse=True):
        if not count:
            ready[cells[cell].module].append(cell)
    out = []
    while ready:
        module = max(ready, key=lambda name: (len(ready[name]), -name))
        own = ready[module]
        while own:
            cell = own.pop()
            out.append(cell)
            for user in users[cell]:
                left[user] -= 1
                if not left[user]:
                    ready[cells[user].module].append(user)
        del ready[module]
    assert len(out) == len(waits), "cells must not wait for each other in a circle"
    return out


def narrow(whole: Words, order: list[int], kept: set[int]) -> None:
    """Leave out high bits of sums and products that nothing uses.

    ``order`` is that of the cells that compute; ``kept`` are those that are used from outside.
    """
    used: dict[int, int] = defaultdict(int)

    def use(nets: Nets) -> None:
        for piece in pieces(nets):
            if piece.cell:
                end = piece.start + (1 if piece.repeated else piece.length)
                used[piece.cell] = max(used[piece.cell], end)

    for cell in whole.cells:
        if cell.sink:
            for nets in cell.inputs:
                use(nets)
    for index in reversed(order):
        cell = whole.cells[index]
        if cell.sink:
            continue
        size = used[index]
        if index not in kept and 0 < size < cell.width:
            if cell.kind in _FROM_BELOW:
                cell.inputs[0] = cell.inputs[0][:size]
                if cell.kind != "<<":
                    cell.inputs[1:] = [nets[:size] for nets in cell.inputs[1:]]
                cell.width = size
            elif cell.kind in _BY_BIT:
                _cut(cell, size)
        for nets in cell.inputs:
            use(nets)


def _cut(cell: Cell, size: int) -> None:
    """Leave the lowest bits of a cell that treats each alike."""
    if cell.kind == "assign":
        inputs, starts = [cell.inputs[0][:size]], []
        for n, start in enumerate(cell.starts):
            condition, value = cell.inputs[1 + 2 * n : 3 + 2 * n]
            if start < size:
                inputs += [condition, value[: size - start]]
                starts.append(start)
        cell.inputs, cell.starts = inputs, starts
    else:
        first = 1 if cell.kind == "m" else 0
        cell.inputs[first:] = [nets[:size] for nets in cell.inputs[first:]]
    cell.width = size
