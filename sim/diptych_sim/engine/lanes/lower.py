# SPDX-License-Identifier: BSD-2-Clause
"""Turns a netlist into operations on lanes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from diptych_sim.engine.emit import deep_recursion

from .graph import Graph, Nets, Node
from .live_bits import demanded
from .netlist import Design, NetlistError, nir
from .partition import Partition

__all__ = ["Lowered", "MemoryState", "Read", "Register", "Write", "lower"]


@dataclass
class Register:
    """A segment of a flip-flop, or a bit of one: ``node`` takes the value ``next``."""

    name: str
    cell: int
    low: int
    node: int
    init: int
    resets: bool
    next: int = -1


@dataclass
class MemoryState:
    """A memory: ``pieces`` are (first bit, width) of what is stored apart."""

    name: str
    cell: int
    depth: int
    width: int
    init: tuple[int, ...]
    pieces: list[tuple[int, int]] = field(default_factory=list)
    shared: bool = False


@dataclass
class Read:
    """A synchronous read port; ``targets`` are (node, first bit) that take what was read."""

    name: str
    memory: int
    enable: int
    address: int
    cell: int
    targets: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass
class Write:
    """A write port.

    ``data`` has for each piece of the memory its word or bit, and what enables which of its bits:
    (enable, first bit, width).
    """

    memory: int
    enable: int
    address: int
    data: list[tuple[int, list[tuple[int, int, int]]]]


@dataclass
class Lowered:
    """A design as operations on lanes."""

    graph: Graph
    registers: list[Register]
    memories: dict[int, MemoryState]
    reads: list[Read]
    writes: list[Write]
    inputs: dict[str, list[tuple[int, int, int]]]
    outputs: dict[str, Nets]
    asserts: list[tuple[int, str]]
    aliases: dict[str, str]
    modules: list[int]
    """Of each cell of the netlist."""

    def driven(self) -> dict[str, list[int]]:
        """Return the nodes that each output is made of, without constants."""
        return {
            name: sorted({node for node, *_ in self.graph.pieces(nets) if node > 1})
            for name, nets in self.outputs.items()
        }


class _Lowering:
    def __init__(self, design: Design, parts: Partition) -> None:
        self.design, self.parts = design, parts
        self.cells = design.cells
        self.graph = Graph()
        self.memo: dict[tuple[int, int], Nets] = {}
        self.inputs: dict[int, int] = {}
        self.registers: list[Register] = []
        self.reads: dict[int, Read] = {}
        self.memories: dict[int, MemoryState] = {}
        self.need = demanded(design)

    # --- nets ---

    def value(self, nets: Any) -> Nets:
        return tuple(self.net(int(net)) for net in nets)

    def bit(self, net: Any) -> int:
        return self.graph.bit(self.net(int(net)))

    def net(self, net: int) -> int:
        if net < 2:
            return net << 6
        cell, at = net >> 16, net & 0xFFFF
        if cell == 0:
            if net == self.design.reset:
                return 0
            return self.inputs[net]
        graph = self.graph
        low, high = self._segment(cell, at)
        key = (cell, low)
        found = self.memo.get(key)
        if found is None:
            outer, graph.module = graph.module, self.cells[cell].module_idx
            found = self._lower(cell, low, high)
            graph.module = outer
            assert len(found) == high - low, (self.cells[cell], low, high, len(found))
            self.memo[key] = found
        return found[at - low]

    def _segment(self, cell: int, at: int) -> tuple[int, int]:
        """Return the bits that are lowered together with bit ``at``."""
        cuts = self.parts.cuts.get(cell)
        if cuts is None:
            kind = self.cells[cell]
            if isinstance(kind, nir.PriorityMatch):
                return at, at + 1
            return 0, len(kind.output_nets(cell))
        for low, high in itertools.pairwise(cuts):
            if low <= at < high:
                return (low, high) if (cell, low) in self.parts.words else (at, at + 1)
        raise AssertionError(cell, at)

    # --- cells ---

    def _lower(self, index: int, low: int, high: int) -> Nets:
        cell = self.cells[index]
        graph = self.graph
        if isinstance(cell, nir.FlipFlop):
            return self._register(index, low, high)
        if isinstance(cell, nir.SyncReadPort):
            return self._sync_read(index, low, high)
        if isinstance(cell, nir.AsyncReadPort):
            return self._async_read(cell, low, high)
        if isinstance(cell, nir.AssignmentList):
            return self._assignments(index, cell, low, high)
        if isinstance(cell, nir.PriorityMatch):
            before = [graph.not_(self.bit(net)) for net in cell.inputs[:low]]
            enable = graph.and_(self.bit(cell.en), graph.all_of(before))
            return (graph.and_(enable, self.bit(cell.inputs[low])) << 6,)
        if isinstance(cell, nir.Matches):
            return (graph.any_of([self._matches(cell.value, p) for p in cell.patterns]) << 6,)
        if isinstance(cell, nir.Part):
            return self._part(cell)
        if isinstance(cell, nir.Operator):
            return self._operator(index, cell, low, high)
        raise NetlistError(f"Lanes cannot run the cell {cell!r}")

    def _matches(self, value: Any, pattern: str) -> int:
        graph = self.graph
        parts = []
        for net, want in zip(value, reversed(pattern), strict=True):
            if want != "-":
                bit = self.bit(net)
                parts.append(bit if want == "1" else graph.not_(bit))
        return graph.all_of(parts)

    def _assignments(self, index: int, cell: Any, low: int, high: int) -> Nets:
        out = self.value(cell.default[low:high])
        words = (index, low) in self.parts.words
        for item in cell.assignments:
            start, stop = max(low, item.start), min(high, item.start + len(item.value))
            if start >= stop:
                continue
            condition = self.bit(item.cond)
            if condition == 0:
                continue
            value = self.value(item.value[start - item.start : stop - item.start])
            whole = (*out[: start - low], *value, *out[stop - low :])
            out = self.graph.mux_nets(condition, whole, out, words)
        return out

    def _register(self, index: int, low: int, high: int) -> Nets:
        cell = self.cells[index]
        node = self.graph.add("source", high - low)
        init = cell.init >> low & (1 << high - low) - 1
        name = self.design.names.get(index, f"cell_{index}")
        self.registers.append(
            Register(name, index, low, node, init, index in self.design.resettable)
        )
        return self.graph.nets(node)

    def finish_registers(self) -> None:
        """Lower what registers take; lowering one may find others."""
        for register in self.registers:
            cell = self.cells[register.cell]
            width = self.graph.nodes[register.node].width
            value = self.value(cell.data[register.low : register.low + width])
            node = self.graph.bit(value[0]) if width == 1 else self.graph.word(value)
            register.next = node

    def _memory(self, index: int) -> MemoryState:
        found = self.memories.get(index)
        if found is None:
            cell = self.cells[index]
            name = self.design.names[index]
            found = MemoryState(name, index, cell.depth, cell.width, cell.init)
            found.pieces = self._pieces(index)
            self.memories[index] = found
        return found

    def _pieces(self, index: int) -> list[tuple[int, int]]:
        """Return (first bit, width) of what a memory stores apart.

        Asynchronous reads choose among few words, of whole vectors: segments, single bits one by
        one. Others look up a word for each lane: as wide as can be.
        """
        ports = [c for c in self.cells if getattr(c, "memory", None) == index]
        if not any(isinstance(port, nir.AsyncReadPort) for port in ports):
            width = self.cells[index].width
            grains = [width // len(p.en) for p in ports if isinstance(p, nir.SyncWritePort)]
            step = min([64, *(grain for grain in grains if grain >= 32)])
            return [(low, min(step, width - low)) for low in range(0, width, step)]
        cuts = self.parts.cuts[index]
        out = []
        for low, high in itertools.pairwise(cuts):
            if (index, low) in self.parts.words:
                out.append((low, high - low))
            else:
                out += [(bit, 1) for bit in range(low, high)]
        return out

    def _sync_read(self, index: int, low: int, high: int) -> Nets:
        cell = self.cells[index]
        if cell.transparent_for:
            raise NetlistError(f"Lanes cannot run the transparent read port {cell!r}")
        node = self.graph.add("source", high - low)
        self._memory(cell.memory)
        if index not in self.reads:
            name = self.design.names.get(index, f"cell_{index}")
            self.reads[index] = Read(name, cell.memory, -1, -1, index)
        self.reads[index].targets.append((node, low, high - low))
        return self.graph.nets(node)

    def _async_read(self, cell: Any, low: int, high: int) -> Nets:
        self._memory(cell.memory)
        address = tuple(self.bit(net) for net in cell.addr)
        node = self.graph.add("aread", high - low, cell.memory, low, address)
        return self.graph.nets(node)

    def finish_reads(self) -> None:
        """Lower enables and addresses; bits of words that are read become registers themselves."""
        places = {}
        for read in self.reads.values():
            cell = self.cells[read.cell]
            read.enable = self.bit(cell.en)
            read.address = self._word(cell.addr)
            places |= {node: (read, low) for node, low, _ in read.targets}
        for index, node in enumerate(self.graph.nodes):
            if node.op == "bit" and node.args[0] in places:
                read, low = places[node.args[0]]
                read.targets.append((index, low + node.args[1], 1))
                self.graph.nodes[index] = Node("source", 1, ())

    def write(self, cell: Any) -> Write:
        """Lower a write port."""
        memory = self._memory(cell.memory)
        enables = [self.bit(net) for net in cell.en]
        share = memory.width // len(enables)
        # What the same bit enables is written as one.
        groups, end = [], 0
        for enable, same in itertools.groupby(enables):
            begin, end = end, end + share * len(list(same))
            groups.append((enable, begin, end))
        data = []
        for low, width in memory.pieces:
            value = self.value(cell.data[low : low + width])
            node = self.graph.bit(value[0]) if width == 1 else self.graph.word(value)
            parts = []
            for enable, begin, end in groups:
                first, stop = max(low, begin), min(low + width, end)
                if first < stop and enable != 0:
                    parts.append((enable, first - low, stop - first))
            data.append((node, parts))
        return Write(cell.memory, self.graph.any_of(enables), self._word(cell.addr), data)

    def _part(self, cell: Any) -> Nets:
        graph = self.graph
        value = self.value(cell.value)
        fill = value[-1] if cell.value_signed else 0
        offset = [self.bit(net) for net in cell.offset]
        count = min(1 << len(offset), -(-len(value) // cell.stride))

        def candidate(number: int) -> Nets:
            start = number * cell.stride
            part = value[start : start + cell.width]
            return (*part, *[fill] * (cell.width - len(part)))

        beyond = (fill,) * cell.width
        words = cell.width > 6 and graph.is_word(value)

        def choose(first: int, bits: int) -> Nets:
            if first >= count:
                return beyond
            if bits == 0:
                return candidate(first)
            below = choose(first, bits - 1)
            above = choose(first + (1 << bits - 1), bits - 1)
            return graph.mux_nets(offset[bits - 1], above, below, words)

        return choose(0, len(offset))

    def _operator(self, index: int, cell: Any, low: int, high: int) -> Nets:
        graph, op = self.graph, cell.operator
        inputs = cell.inputs
        if op in ("&", "|", "^", "~"):
            name = {"&": "and", "|": "or", "^": "xor", "~": "not"}[op]
            return graph.bitwise(name, *(self.value(v[low:high]) for v in inputs))
        if op == "m":
            condition = self.bit(inputs[0][0])
            words = (index, low) in self.parts.words
            a, b = (self.value(v[low:high]) for v in inputs[1:])
            return graph.mux_nets(condition, a, b, words)
        if op in ("b", "r|"):
            return (graph.any(self.value(inputs[0])) << 6,)
        if op == "r&":
            return (graph.all_of([self.bit(net) for net in inputs[0]]) << 6,)
        if op == "r^":
            out = 0
            for net in inputs[0]:
                out = graph.xor(out, self.bit(net))
            return (out << 6,)
        if op in ("==", "!="):
            same = graph.equal(self.value(inputs[0]), self.value(inputs[1]))
            return ((same if op == "==" else graph.not_(same)) << 6,)
        if op[0] in "us" and op[1:] in ("<", ">", "<=", ">="):
            a, b = (self.value(v) for v in inputs)
            if op[1:] in (">", "<="):
                a, b = b, a
            less = graph.less(a, b, op[0] == "s")
            return ((less if len(op) == 2 else graph.not_(less)) << 6,)
        return self._arithmetic(index, cell)

    def _arithmetic(self, index: int, cell: Any) -> Nets:
        graph, op = self.graph, cell.operator
        width = cell.width
        used = max(self.need.get(index, 0).bit_length(), 1)
        first = cell.inputs[0]
        if op in ("+", "-", "*", "<<"):
            first = first[:used]
        if op in ("+", "-", "*") and len(cell.inputs) == 1:
            out = graph.sum((0,) * len(first), self.value(first), subtract=True)
        elif op in ("+", "-"):
            out = graph.sum(self.value(first), self.value(cell.inputs[1][:used]), op == "-")
        elif op == "*":
            words = [self._word(first), self._word(cell.inputs[1][:used])]
            out = graph.nets(graph.add("mul", len(first), *words))
        elif op == "<<":
            out = self._shift_left(self.value(first), cell.inputs[1])
        elif op in ("u>>", "s>>") and all(int(net) < 2 for net in cell.inputs[1]):
            value = self.value(first)
            by = min(sum(int(net) << at for at, net in enumerate(cell.inputs[1])), width)
            out = (*value[by:], *[value[-1] if op == "s>>" else 0] * by)
        elif op in ("u>>", "s>>"):
            amount = self._word(cell.inputs[1])
            name = "shr" if op == "u>>" else "sar"
            out = graph.nets(graph.add(name, width, self._word(first), amount))
        else:
            raise NetlistError(f"Lanes cannot run the operator {op!r}")
        return (*out, *[0] * (width - len(out)))

    def _word(self, nets: Any) -> int:
        value = self.value(nets)
        if len(value) == 1:
            value = (*value, 0)
        if len(value) > 64:
            raise NetlistError(f"Lanes compute with at most 64 bits, not {len(value)!r}")
        return self.graph.word(value)

    def _shift_left(self, value: Nets, amount: Any) -> Nets:
        graph = self.graph
        fixed = all(int(net) < 2 for net in amount)
        if graph.is_word(value) and not fixed:
            return graph.nets(graph.add("shl", len(value), graph.word(value), self._word(amount)))
        for stage, net in enumerate(amount):
            by = 1 << stage
            moved = ((0,) * by + value)[: len(value)]
            value = graph.mux_nets(self.bit(net), moved, value, False)
        return value


def lower(design: Design, parts: Partition) -> Lowered:
    """Turn a netlist into operations on lanes; every register and memory is kept.

    Raises
    ------
    NetlistError
        If a cell is of a kind that lanes cannot run.
    """
    work = _Lowering(design, parts)
    graph = work.graph
    ports: dict[str, list[tuple[int, int, int]]] = {}
    for port in design.inputs.values():
        key = -(port.nets[0] & 0xFFFF)
        ports[port.name] = []
        cuts = parts.cuts[key]
        for low, high in itertools.pairwise(cuts):
            if (key, low) in parts.words:
                steps = [(low, high)]
            else:
                steps = [(bit, bit + 1) for bit in range(low, high)]
            for first, stop in steps:
                node = graph.add("source", stop - first)
                ports[port.name].append((node, first, stop - first))
                for bit in range(first, stop):
                    work.inputs[port.nets[bit]] = node << 6 | bit - first
    with deep_recursion():
        return _lower_all(work, design, ports)


def _lower_all(
    work: _Lowering, design: Design, ports: dict[str, list[tuple[int, int, int]]]
) -> Lowered:
    graph = work.graph
    asserts: list[tuple[int, str]] = []
    writes: list[Write] = []
    for index, cell in enumerate(design.cells):
        if isinstance(cell, (nir.FlipFlop, nir.SyncReadPort)):
            work.value([index << 16 | bit for bit in range(len(cell.output_nets(index)))])
        elif isinstance(cell, nir.SyncProperty) and cell.kind == "assert":
            wrong = graph.and_(work.bit(cell.en), graph.not_(work.bit(cell.test)))
            chunks = cell.format.chunks if cell.format else ()
            asserts.append((wrong, "".join(c for c in chunks if isinstance(c, str))))
        elif isinstance(cell, nir.SyncWritePort):
            writes.append(work.write(cell))
        elif isinstance(cell, (nir.Instance, nir.IOBuffer, nir.AsyncPrint, nir.SyncPrint)):
            raise NetlistError(f"Lanes cannot run the cell {cell!r}")
    work.finish_registers()
    work.finish_reads()
    written = {write.memory for write in writes}
    for memory in work.memories.values():
        memory.shared = memory.cell not in written
    return Lowered(
        graph=graph,
        registers=work.registers,
        memories=work.memories,
        reads=list(work.reads.values()),
        writes=writes,
        inputs=ports,
        outputs={name: work.value(port.nets) for name, port in design.outputs.items()},
        asserts=asserts,
        aliases=design.aliases,
        modules=[cell.module_idx for cell in design.cells],
    )
