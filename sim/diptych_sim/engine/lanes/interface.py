# SPDX-License-Identifier: BSD-2-Clause
"""Interface of a compiled design: places of its ports, registers and memories."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

from .layout import Element, Layout
from .lower import Lowered

__all__ = ["Interface", "Memory", "Piece", "Segment"]


class Segment(NamedTuple):
    """Bits of a register, of an input or of what was read from a memory, in a node of their own."""

    node: int
    low: int
    width: int


class Piece(NamedTuple):
    """Bits of an output: ``width`` bits of a node, from bit ``at`` on; in the output from ``low``."""

    node: int
    at: int
    width: int
    low: int


class Memory(NamedTuple):
    """A memory; ``lows`` are the first bits of what is stored apart."""

    name: str
    depth: int
    lows: list[int]


@dataclass(frozen=True)
class Interface:
    """A design as others see it.

    Attributes
    ----------
    layout : Layout
        Where each node is.
    registers, reads : list of (str, Segment)
        Flip-flops, and registers of read ports, by name and in order.
    memories : dict of int to Memory
        By the number that they have in the layout.
    inputs, outputs : dict of str to list
        Segments of each input, and pieces of each output.
    asserts : list of str
        Messages of the assertions.
    aliases : dict of str to str
        Further names of registers.
    cells : int
        Cells of the netlist.
    """

    layout: Layout
    registers: list[tuple[str, Segment]]
    reads: list[tuple[str, Segment]]
    memories: dict[int, Memory]
    inputs: dict[str, list[Segment]]
    outputs: dict[str, list[Piece]]
    asserts: list[str]
    aliases: dict[str, str]
    cells: int

    @classmethod
    def of(cls, low: Lowered, layout: Layout) -> Self:
        """Return what is to be known of a design."""
        width = low.graph.nodes
        return cls(
            layout=layout,
            registers=[
                (r.name, Segment(r.node, r.low, width[r.node].width)) for r in low.registers
            ],
            reads=[
                (read.name, Segment(node, first, width[node].width))
                for read in low.reads
                for node, first, _ in read.targets
            ],
            memories={
                cell: Memory(memory.name, memory.depth, [first for first, _ in memory.pieces])
                for cell, memory in low.memories.items()
            },
            inputs={name: [Segment(*part) for part in parts] for name, parts in low.inputs.items()},
            outputs={
                name: [Piece(*piece) for piece in low.graph.pieces(nets)]
                for name, nets in low.outputs.items()
            },
            asserts=[message for _, message in low.asserts],
            aliases=low.aliases,
            cells=len(low.modules),
        )

    def input_number(self, name: str) -> int:
        """Return the number of an input, in the order of the inputs."""
        return list(self.inputs).index(name)

    def output_number(self, name: str) -> int:
        """Return the number of an output, in the order of the outputs."""
        return list(self.outputs).index(name)

    def to_json(self) -> str:
        """Return all of it as a text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what :meth:`to_json` has made a text of."""
        fields = json.loads(text)
        layout = fields["layout"]
        layout["nodes"] = {int(node): Element(**e) for node, e in layout["nodes"].items()}
        layout["memories"] = {
            int(cell): [Element(**e) for e in pieces] for cell, pieces in layout["memories"].items()
        }
        fields["layout"] = Layout(**layout)
        for kind in ("registers", "reads"):
            fields[kind] = [(name, Segment(*part)) for name, part in fields[kind]]
        fields["memories"] = {int(cell): Memory(*m) for cell, m in fields["memories"].items()}
        for kind, item in (("inputs", Segment), ("outputs", Piece)):
            fields[kind] = {name: [item(*p) for p in ps] for name, ps in fields[kind].items()}
        return cls(**fields)
