# SPDX-License-Identifier: BSD-2-Clause
"""Decides which bits of a netlist are kept as words, and which one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .netlist import Chunk, Design, chunks, nir

__all__ = ["NARROW", "WORD", "Partition", "partition"]

WORD = 64
"""Bits of the widest word."""
NARROW = 6
"""Bits of the widest value that is always kept bit by bit."""

_ARITHMETIC = {"+", "-", "*", "u>>", "s>>", "u<", "s<", "u>", "s>", "u<=", "s<=", "u>=", "s>="}
_BITWISE = {"&", "|", "^", "~"}
Segment = tuple[int, int]


@dataclass
class Partition:
    """Segments of every cell that only moves bits.

    Attributes
    ----------
    cuts : dict of int to list of int
        Ends of a cell's segments, from 0 to its width.
    words : set of (int, int)
        Segments, by cell and first bit, that are words; the others are single bits.
    """

    cuts: dict[int, list[int]] = field(default_factory=dict)
    words: set[Segment] = field(default_factory=set)


def _width(cell: Any) -> int:
    if isinstance(cell, nir.FlipFlop):
        return len(cell.data)
    if isinstance(cell, nir.AssignmentList):
        return len(cell.default)
    return cell.width


def _moves(cell: Any) -> bool:
    """Return whether a cell only moves bits, or combines those of equal place."""
    if isinstance(cell, nir.Operator):
        return cell.operator in _BITWISE or cell.operator == "m"
    kinds = (nir.FlipFlop, nir.AssignmentList, nir.Memory, nir.SyncReadPort, nir.AsyncReadPort)
    return isinstance(cell, kinds)


def _links(index: int, cell: Any) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the values that a cell moves, with the place of their first bit in it."""
    if isinstance(cell, nir.Operator):
        for value in cell.inputs[1:] if cell.operator == "m" else cell.inputs:
            yield 0, value
    elif isinstance(cell, nir.FlipFlop):
        yield 0, cell.data
    elif isinstance(cell, nir.AssignmentList):
        yield 0, cell.default
        for assignment in cell.assignments:
            yield assignment.start, assignment.value


class _Union:
    def __init__(self) -> None:
        self.parent: dict[Segment, Segment] = {}

    def find(self, item: Segment) -> Segment:
        while (up := self.parent.setdefault(item, item)) != item:
            self.parent[item] = self.parent[up]
            item = up
        return item

    def join(self, a: Segment, b: Segment) -> None:
        self.parent[self.find(a)] = self.find(b)


class _Partitioner:
    def __init__(self, design: Design) -> None:
        self.cells = design.cells
        self.cuts: dict[int, set[int]] = {}
        for index, cell in enumerate(self.cells):
            if _moves(cell):
                self.cuts[index] = {0, _width(cell)}
        # An input port is a cell of its own, by the negative of its first bit.
        self.inputs: dict[int, tuple[int, int]] = {}
        for port in design.inputs.values():
            key = -(port.nets[0] & 0xFFFF)
            self.cuts[key] = {0, len(port.nets)}
            for bit, net in enumerate(port.nets):
                self.inputs[net] = (key, bit)
        self.moves: list[tuple[int, int, int, int, int]] = []
        for index, cell in enumerate(self.cells):
            if isinstance(cell, (nir.AsyncReadPort, nir.SyncReadPort)):
                self.moves.append((index, 0, cell.memory, 0, cell.width))
            elif _moves(cell):
                for at, value in _links(index, cell):
                    for chunk in self.chunks(value):
                        if chunk.cell in self.cuts:
                            length = chunk.stop - chunk.start
                            place = at + chunk.at
                            self.moves.append((index, place, chunk.cell, chunk.start, length))

    def chunks(self, value: Any) -> list[Chunk]:
        """Split a value as :func:`.chunks`, with input ports as cells."""
        out = []
        for chunk in chunks(tuple(map(int, value))):
            if chunk.cell or chunk.start not in self.inputs:
                out.append(chunk)
                continue
            at, bit = chunk.at, chunk.start
            while bit < chunk.stop:
                key, first = self.inputs[bit]
                size = min(chunk.stop - bit, max(self.cuts[key]) - first)
                out.append(Chunk(key, first, first + size, at))
                at, bit = at + size, bit + size
        return out

    def width(self, index: int) -> int:
        return max(self.cuts[index])

    def cut(self, design: Design, pairs: list[tuple[int, int]]) -> None:
        """Cut at fields of structures and at the ends of partial assignments."""
        for nets, fields in design.fields:
            whole = self.chunks(nets)
            for outermost, value in fields:
                for chunk in self.chunks(value):
                    index = chunk.cell
                    if index not in self.cuts:
                        continue
                    exact = len(whole) == 1 and len(nets) == self.width(index)
                    read = index > 0 and isinstance(self.cells[index], nir.SyncReadPort)
                    if exact and (outermost or not read):
                        self.cuts[index] |= {chunk.start, chunk.stop}
        for index, cell in enumerate(self.cells):
            if isinstance(cell, nir.AssignmentList):
                for assignment in cell.assignments:
                    stop = assignment.start + len(assignment.value)
                    self.cuts[index] |= {assignment.start, stop}
            elif isinstance(cell, nir.SyncWritePort):
                grain = self.cells[cell.memory].width // len(cell.en)
                if grain >= 32:
                    self.cuts[cell.memory] |= set(range(0, self.width(cell.memory), grain))
        for a, b in pairs:
            self.moves.append((a, 0, b, 0, self.width(a)))
        changed = True
        while changed:
            changed = False
            for a, at, b, start, length in self.moves:
                # Only where all of one goes into all of the other: a slice is cheap.
                wide_a, wide_b = self.width(a) > WORD, self.width(b) > WORD
                to_b = length == self.width(b) or wide_b
                to_a = length == self.width(a) or wide_a
                whole = length == self.width(a) and length == self.width(b)
                if to_b and (whole or wide_b or wide_a):
                    new = {c - at + start for c in self.cuts[a] if at <= c <= at + length}
                    if not new <= self.cuts[b]:
                        self.cuts[b] |= new
                        changed = True
                if to_a and (whole or wide_a or wide_b):
                    new = {c - start + at for c in self.cuts[b] if start <= c <= start + length}
                    if not new <= self.cuts[a]:
                        self.cuts[a] |= new
                        changed = True
        for cuts in self.cuts.values():
            ends = sorted(cuts)
            for low, high in itertools.pairwise(ends):
                cuts |= set(range(low, high, WORD))

    def kinds(self) -> set[Segment]:
        """Return the segments that are words: those that take part in arithmetic."""
        union = _Union()
        for a, at, b, start, length in self.moves:
            for low, high in self._segments(a):
                inside = at <= low and high <= at + length
                other = low - at + start
                if inside and other in self.cuts[b] and other + high - low in self.cuts[b]:
                    union.join((a, low), (b, other))
        words: dict[Segment, int] = {}
        bits: dict[Segment, int] = {}
        for cell in self.cells:
            for arithmetic, value in _uses(cell):
                for chunk in self.chunks(value):
                    if chunk.cell not in self.cuts:
                        continue
                    for low, high in self._segments(chunk.cell):
                        shared = min(high, chunk.stop) - max(low, chunk.start)
                        votes = words if arithmetic and shared > 1 else bits
                        if shared > 0:
                            key = union.find((chunk.cell, low))
                            votes[key] = votes.get(key, 0) + 1
        for a, at, b, start, length in self.moves:
            for index, low, size in ((b, start, length), (a, at, length)):
                if size == 1 and self.width(index) > 1:
                    for first, stop in self._segments(index):
                        if first <= low < stop and stop - first > 1:
                            key = union.find((index, first))
                            bits[key] = bits.get(key, 0) + 1
        for index, cell in enumerate(self.cells):
            if _produces_words(cell):
                for a, at, source in self._users(index):
                    for low, high in self._segments(a):
                        if low <= at < high and source > 1:
                            key = union.find((a, low))
                            words[key] = words.get(key, 0) + 1
        out = set()
        for index in self.cuts:
            for low, high in self._segments(index):
                key = union.find((index, low))
                single = bool(bits.get(key)) and not words.get(key)
                if high - low > NARROW and not single:
                    out.add((index, low))
        return out

    def _users(self, source: int) -> list[tuple[int, int, int]]:
        return self._from.get(source, [])

    @property
    def _from(self) -> dict[int, list[tuple[int, int, int]]]:
        if not hasattr(self, "_made"):
            made: dict[int, list[tuple[int, int, int]]] = {}
            for index, cell in enumerate(self.cells):
                if _moves(cell):
                    for at, value in _links(index, cell):
                        for chunk in self.chunks(value):
                            size = chunk.stop - chunk.start
                            made.setdefault(chunk.cell, []).append((index, at + chunk.at, size))
            self._made = made
        return self._made

    def _segments(self, index: int) -> list[tuple[int, int]]:
        ends = sorted(self.cuts[index])
        return list(itertools.pairwise(ends))


def _uses(cell: Any) -> Iterator[tuple[bool, Any]]:
    """Yield the values that a cell computes with, and whether it needs them as words."""
    if isinstance(cell, nir.Operator) and not _moves(cell):
        for n, value in enumerate(cell.inputs):
            word = cell.operator in _ARITHMETIC and not (n == 1 and cell.operator[-2:] == ">>")
            yield word, value
    elif isinstance(cell, nir.Part):
        yield cell.width > NARROW, cell.value
        yield False, cell.offset
    elif isinstance(cell, nir.Matches):
        yield False, cell.value
    elif isinstance(cell, nir.SyncWritePort):
        yield False, cell.en
        yield True, cell.addr


def _produces_words(cell: Any) -> bool:
    if isinstance(cell, nir.Operator):
        return cell.operator in _ARITHMETIC
    return isinstance(cell, nir.Part) and cell.width > NARROW


def partition(design: Design, pairs: list[tuple[str, str]]) -> Partition:
    """Partition a netlist.

    Parameters
    ----------
    design : Design
        The netlist.
    pairs : list of (str, str)
        Inputs, and the outputs of a neighbor that they are wired to: partitioned alike.
    """
    work = _Partitioner(design)
    wired = []
    for name, output in pairs:
        key, _ = work.inputs[design.inputs[name].nets[0]]
        # Of a constant there is one for each bit.
        first, *more = work.chunks(design.outputs[output].nets)
        if not more and first.cell in work.cuts:
            wired.append((key, first.cell))
    work.cut(design, wired)
    words = work.kinds()
    return Partition(cuts={k: sorted(v) for k, v in work.cuts.items()}, words=words)
