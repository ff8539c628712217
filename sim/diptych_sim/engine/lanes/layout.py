# SPDX-License-Identifier: BSD-2-Clause
"""Where the state of a block of lanes is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .lower import Lowered

__all__ = ["PART", "Element", "Layout", "element_bytes", "lay_out", "type_of"]

PART = 64
"""Lanes that are computed with at a time; a block is one such part, or several."""


def element_bytes(width: int) -> int:
    """Return the bytes of a lane's element; 0 for a single bit."""
    return 0 if width == 1 else 1 if width <= 8 else 2 if width <= 16 else 4 if width <= 32 else 8


def type_of(width: int) -> str:
    """Return the C++ type of a lane's element."""
    return f"uint{8 * element_bytes(width)}_t"


@dataclass(frozen=True)
class Element:
    """Where something of a block of lanes is: ``size`` bytes a lane, or a bit a lane."""

    offset: int
    size: int
    width: int


@dataclass
class Layout:
    """A block of lanes in memory.

    Attributes
    ----------
    nodes : dict of int to Element
        Registers, read ports, inputs, and outputs that are no registers, by node. Those hold what
        they were in the last cycle.
    memories : dict of int to list of Element
        Pieces of each memory; row ``n`` is ``n`` vectors further on.
    lanes : int
        Lanes of a block.
    state_bytes, bytes : int
        Size without the memories, and with them.
    """

    nodes: dict[int, Element] = field(default_factory=dict)
    memories: dict[int, list[Element]] = field(default_factory=dict)
    lanes: int = PART
    state_bytes: int = 0
    bytes: int = 0

    def step(self, size: int) -> int:
        """Return the bytes that all lanes take of what takes ``size`` a lane, or a bit."""
        return size * self.lanes or self.lanes // 8


def lay_out(low: Lowered, lanes: int, together: Sequence[Sequence[int]] = ()) -> Layout:
    """Place the state of a block: registers that change together first, memories last."""
    nodes = low.graph.nodes
    sources = [register.node for register in low.registers]
    sources += [node for port in low.inputs.values() for node, _, _ in port]
    sources += [node for read in low.reads for node, _, _ in read.targets]
    outputs = {node for driven in low.driven().values() for node in driven}
    sources += [node for node in outputs if nodes[node].op != "source"]
    layout = Layout(lanes=lanes)
    group = {node: n for n, members in enumerate(together) for node in members}
    at, last = 0, -1

    def place(node: int) -> tuple[int, bool, int]:
        return group.get(node, len(together)), nodes[node].width > 1, node

    for node in sorted(sources, key=place):
        size = element_bytes(nodes[node].width)
        if size or place(node)[0] != last:
            at = -(-at // 64) * 64
        last = place(node)[0]
        layout.nodes[node] = Element(at, size, nodes[node].width)
        at += layout.step(size)
    layout.state_bytes = at = -(-at // 4096) * 4096
    for memory in low.memories.values():
        if memory.shared:
            continue
        layout.memories[memory.cell] = []
        for _, width in memory.pieces:
            size = element_bytes(width)
            layout.memories[memory.cell].append(Element(at, size, width))
            at += -(-memory.depth * (layout.step(size)) // 64) * 64
    layout.bytes = -(-at // 4096) * 4096
    return layout
