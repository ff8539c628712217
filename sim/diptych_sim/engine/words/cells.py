# SPDX-License-Identifier: BSD-2-Clause
"""A netlist with one clock, whatever modules it came from: cells, and names of their bits.

A net is ``cell << 16 | bit``; nets 0 and 1 are the constants. Nothing depends on the reset: it is
known which registers have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Cell", "Group", "Nets", "Piece", "Words", "pieces"]

Nets = tuple[int, ...]


@dataclass
class Cell:
    """Something that has a value, or an effect at the clock edge.

    ``kind`` is an operator of Amaranth's netlist; ``part``, ``matches``, ``first`` (the first bit
    that is set), ``assign``; or one of the following. They have a value that changes at the edge:
    ``ff``, ``sread`` and ``storage`` (the cells of an HBM); that is set from outside: ``input``; of
    an instance in a group: ``lane``. Others have none: ``memory``, ``write``, ``assert``, ``watch``,
    and ``drive``: an input of a module that something else computes, whose outputs are inputs here.

    Attributes
    ----------
    kind : str
        As above.
    width : int
        Bits of the value; of a memory, those of a word.
    inputs : list of Nets
        What it uses. ``assign``: the default, then conditions and values in turn. ``sread``: address
        and enable. ``write``: data, address and enables. ``part``: value and offset.
    starts : list of int
        Of ``assign``: first bit of each value.
    patterns : tuple of str
        Of ``matches``: any of these, ``-`` for any bit.
    memory : int
        Cell of the memory that is read or written.
    init : int or tuple of int
        Initial value of a register; initial words of a memory.
    depth, stride : int
        Words of a memory; bits of a step of a ``part``; of a ``watch`` its number; of a ``drive``,
        and an input with ``flag``, the first of its words among those of the module.
    flag : bool
        ``ff``: it has a reset. ``part``: it extends its sign. ``watch``: it only counts. ``input``:
        it comes from the module that something else computes.
    place : (int, int, int)
        Of ``lane``: group, instance, and cell in it.
    ports : tuple of int
        Of ``sread``: writes of the same cycle that it shows.
    text : str
        Message of an assertion; name of a memory, an input or of what is watched.
    """

    kind: str
    width: int
    inputs: list[Nets] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    patterns: tuple[str, ...] = ()
    memory: int = -1
    init: int | tuple[int, ...] = 0
    depth: int = 0
    stride: int = 0
    flag: bool = False
    place: tuple[int, int, int] = (0, 0, 0)
    ports: tuple[int, ...] = ()
    text: str = ""
    module: int = 0

    @property
    def held(self) -> bool:
        """Whether its value is there when a cycle begins."""
        return self.kind in ("ff", "sread", "storage", "input")

    @property
    def sink(self) -> bool:
        """Whether it is there for its effect."""
        return self.kind in ("ff", "sread", "storage", "write", "assert", "watch", "drive")


@dataclass
class Group:
    """Instances of one module that are computed together.

    Attributes
    ----------
    name : str
        The module.
    body : Words
        One of them.
    paths : list of str
        Names of the instances.
    inputs : list of dict of int to Nets
        For each instance, nets of the inputs by cell of the body.
    """

    name: str
    body: Words
    paths: list[str] = field(default_factory=list)
    inputs: list[dict[int, Nets]] = field(default_factory=list)

    def computed_outputs(self, whole: Words, number: int) -> set[int]:
        """Return the cells behind outputs that are no registers; the group has a number."""
        used = {c.place[2] for c in whole.cells if c.kind == "lane" and c.place[0] == number}
        return {cell for cell in used if not self.body.cells[cell].held}

    def behind(self, outputs: set[int]) -> set[int]:
        """Return the cells of the body that cells are computed from in the same cycle, and these."""
        seen, stack = set(outputs), list(outputs)
        while stack:
            cell = self.body.cells[stack.pop()]
            new = {net >> 16 for nets in cell.inputs for net in nets if net > 1} - seen
            seen |= new
            stack += [n for n in new if not self.body.cells[n].held]
        return seen

    def outputs_need(self, whole: Words, number: int) -> set[int]:
        """Return the inputs that outputs depend on in the same cycle."""
        found = self.behind(self.computed_outputs(whole, number))
        return {n for n in found if self.body.cells[n].kind == "input"}


@dataclass
class Words:
    """A netlist.

    Attributes
    ----------
    cells : list of Cell
        Its cells; the first is none.
    signals : dict of str to Nets
        All signals, by path.
    outputs : dict of str to Nets
        Outputs of the top.
    outside : list of (str, str, int, int)
        Ports of the module that something else computes: way, name, first of its words, width.
    groups : list of Group
        Equal instances.
    """

    cells: list[Cell] = field(default_factory=lambda: [Cell("none", 2)])
    signals: dict[str, Nets] = field(default_factory=dict)
    outputs: dict[str, Nets] = field(default_factory=dict)
    outside: list[tuple[str, str, int, int]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """Bits of a value that come from one place.

    ``cell`` is 0 for a constant, which is ``start`` then. ``repeated``: one bit of a cell, so many
    times.
    """

    cell: int
    start: int
    length: int
    at: int
    repeated: bool = False


def pieces(nets: Nets) -> Iterator[Piece]:
    """Split a value where its source changes."""
    at, size = 0, len(nets)
    while at < size:
        net, end = nets[at], at + 1
        if net < 2:
            value = 0
            while end < size and nets[end] < 2:
                end += 1
            for bit in range(at, end):
                value |= nets[bit] << bit - at
            yield Piece(0, value, end - at, at)
        elif end < size and nets[end] == net:
            while end < size and nets[end] == net:
                end += 1
            yield Piece(net >> 16, net & 0xFFFF, end - at, at, repeated=True)
        else:
            while end < size and nets[end] == net + end - at:
                end += 1
            yield Piece(net >> 16, net & 0xFFFF, end - at, at)
        at = end
