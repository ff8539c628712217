# SPDX-License-Identifier: BSD-2-Clause
"""Reads Amaranth's netlists of a component and of the prototypes in it as one netlist."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from typing import Any

# Private modules, so the version of Amaranth is pinned.
from amaranth.hdl import UnusedElaboratable, Value, _ir, _nir  # pyright: ignore
from amaranth.lib import wiring

from diptych.memory.hbm import STORAGE
from diptych.precompiled import collecting
from diptych_sim.engine.emit import deep_recursion, mark_used
from diptych_sim.engine.errors import EngineError
from diptych_sim.engine.loops import loops_by_cells

from .cells import Cell, Group, Nets, Words, pieces

__all__ = ["WordsError", "read_words"]

nir: Any = _nir
ir: Any = _ir
GROUPED = 4
"""Instances from which on a module is computed in a loop over them."""
LARGE = 16
"""Cells of such a module, at least."""
WIDE = 64


class WordsError(EngineError):
    """The word engine cannot run the hardware; the message names the cell."""


def read_words(component: wiring.Component, name: str, outside: str | None = None) -> Words:
    """Return the netlist of a component in the ``sync`` domain.

    ``outside`` is a module that something else computes; there is one instance.

    Raises
    ------
    WordsError
        If there is something in it that words cannot compute.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)  # prototypes
        with collecting() as found:
            top = _netlist(component, name)
            classes: dict[str, Any] = {}
            while left := [kind for kind in found if kind not in classes and kind != outside]:
                for kind in left:
                    classes[kind] = _netlist(found[kind].prototype, kind)
            if outside in found:
                mark_used(found[outside].prototype)
    out = Words()
    reader = _Reader(out, classes, outside)
    reader.read_top(top)
    reader.resolve()
    return out


def _netlist(component: wiring.Component, name: str) -> Any:
    ports = []
    for path, member, value in component.signature.flatten(component):
        way = ir.PortDirection.Input if member.flow is wiring.In else ir.PortDirection.Output
        ports.append(("__".join(map(str, path)), Value.cast(value), way))
    with deep_recursion(), loops_by_cells():
        return ir.build_netlist(ir.Fragment.get(component, None), ports=ports, name=name)


def _nets(value: Any) -> Nets:
    return tuple(map(int, value))


class _Reader:
    """Puts netlists into one; nets of inlined modules are others' until :meth:`resolve`."""

    def __init__(self, out: Words, classes: dict[str, Any], outside: str | None = None) -> None:
        self.out, self.classes, self.outside = out, classes, outside
        self.same: dict[int, int] = {}
        """Nets that are others."""
        self.groups: dict[str, int] = {}
        self.modules = 0
        self.lanes: dict[tuple[int, int, int], int] = {}

    def read_top(self, netlist: Any, grouped: bool = True) -> None:
        """Read a netlist whose inputs come from outside; those of a group, if wide, in pieces."""
        cuts = set() if grouped else _cuts(netlist)
        ports: dict[int, int] = {}
        for name, (first, width) in netlist.top.ports_i.items():
            if name in ("clk", "rst"):
                ports[first] = 0
                continue
            inside = {c - first for c in cuts if width > WIDE and first < c < first + width}
            ends = sorted({0, width, *inside})
            for low, high in itertools.pairwise(ends):
                index = self.add(Cell("input", high - low, text=f"{name}[{low}]"))
                ports |= {first + bit: index << 16 | bit - low for bit in range(low, high)}
            nets = tuple(ports[first + bit] for bit in range(width))
            self.out.signals[name] = nets
        used = Counter(c.type for c in netlist.cells if isinstance(c, nir.Instance))
        names = {
            kind
            for kind, count in used.items()
            if grouped
            and count >= GROUPED
            and kind in self.classes
            and len(self.classes[kind].cells) >= LARGE
        }
        to = self.read(netlist, "", ports, names)
        self.out.outputs = {n: tuple(map(to, v)) for n, v in netlist.top.ports_o.items()}

    def add(self, cell: Cell) -> int:
        self.out.cells.append(cell)
        return len(self.out.cells) - 1

    def read(self, netlist: Any, path: str, ports: dict[int, int], grouped: set[str]) -> Any:
        """Read a netlist; return where its nets are in the whole."""
        base = len(self.out.cells)
        self.modules += len(netlist.modules)
        module = self.modules
        self.out.cells += [Cell("none", 0) for _ in netlist.cells]

        def to(net: Any) -> int:
            value = int(net)
            if value < 2:
                return value
            if not value >> 16:
                return ports[value]
            return value + (base << 16)

        reset = netlist.top.ports_i.get("rst", (-1, 0))[0]
        resettable = _resettable(netlist.cells, reset)
        paths = [".".join(filter(None, (path, *m.name[1:]))) for m in netlist.modules]
        for index, cell in enumerate(netlist.cells):
            if isinstance(cell, nir.Instance):
                inner = f"{paths[cell.module_idx]}.{cell.name}".removeprefix(".")
                self.instance(base + index, cell, inner, to, grouped)
            elif index:
                made = _converted(cell, base, to)
                made.module = module + cell.module_idx
                if isinstance(cell, nir.FlipFlop):
                    made.flag = index in resettable
                if isinstance(cell, nir.Memory):
                    made.text = f"{paths[cell.module_idx]}.{cell.name}".removeprefix(".")
                self.out.cells[base + index] = made
        for number, each in enumerate(netlist.modules):
            for signal, name in each.signal_names.items():
                full = f"{paths[number]}.{name}".removeprefix(".")
                self.out.signals.setdefault(full, tuple(map(to, netlist.signals[signal])))
        return to

    def instance(self, index: int, cell: Any, path: str, to: Any, grouped: set[str]) -> None:
        inputs = {name: tuple(map(to, nets)) for name, nets in cell.ports_i.items()}
        if cell.type == STORAGE:
            names = ("write_enable", "write_address", "write_data", "read_enable", "read_address")
            width = cell.ports_o["read_data"][1]
            made = Cell("storage", width, [inputs[name] for name in names], text=path)
            self.out.cells[index] = made
            return
        if cell.type == self.outside:
            self.leave_out(index, cell, path, inputs)
            return
        inner = self.classes.get(cell.type)
        if inner is None:
            raise WordsError(f"Words cannot run the instance {path} of {cell.type!r}")
        if cell.type in grouped:
            outputs = self.lane(cell.type, inner, path, inputs)
        else:
            ports = {
                first + bit: inputs[name][bit]
                for name, (first, width) in inner.top.ports_i.items()
                for bit in range(width)
                if name in inputs
            }
            inside = self.read(inner, path, ports, set())
            outputs = {n: tuple(map(inside, v)) for n, v in inner.top.ports_o.items()}
        for name, (first, width) in cell.ports_o.items():
            for bit in range(width):
                self.same[index << 16 | first + bit] = outputs[name][bit]

    def leave_out(self, index: int, cell: Any, path: str, inputs: dict[str, Nets]) -> None:
        """Let something else compute an instance."""
        word = 0
        for name, nets in inputs.items():
            if name != "clk":
                self.out.outside.append(("i", name, word, len(nets)))
                if name != "rst":
                    self.add(Cell("drive", 0, [nets], stride=word, text=name))
                word += -(-len(nets) // 32)
        word = 0
        for name, (first, width) in cell.ports_o.items():
            self.out.outside.append(("o", name, word, width))
            made = self.add(Cell("input", width, stride=word, flag=True, text=name))
            word += -(-width // 32)
            for bit in range(width):
                self.same[index << 16 | first + bit] = made << 16 | bit
        watched = self.add(Cell("input", 32, stride=word, flag=True, text="watched"))
        self.out.signals[f"{path}.watched"] = tuple(watched << 16 | bit for bit in range(32))

    def lane(self, kind: str, inner: Any, path: str, inputs: dict[str, Nets]) -> dict[str, Nets]:
        """Add an instance to a group; return the nets of its outputs."""
        number = self.groups.get(kind)
        if number is None:
            number = self.groups[kind] = len(self.out.groups)
            body = Words()
            reader = _Reader(body, self.classes)
            reader.read_top(inner, grouped=False)
            reader.resolve()
            self.out.groups.append(Group(kind, body))
        group = self.out.groups[number]
        body, lane = group.body, len(group.paths)
        group.paths.append(path)
        places: dict[int, Nets] = {}
        for index, each in enumerate(body.cells):
            if each.kind == "input":
                name, _, low = each.text[:-1].partition("[")
                places[index] = inputs[name][int(low) : int(low) + each.width]
        group.inputs.append(places)

        def outside(net: int) -> int:
            if net < 2:
                return net
            cell = net >> 16
            key = number, lane, cell
            found = self.lanes.get(key)
            if found is None:
                found = self.add(Cell("lane", body.cells[cell].width, place=key))
                self.lanes[key] = found
            return found << 16 | net & 0xFFFF

        return {name: tuple(map(outside, nets)) for name, nets in body.outputs.items()}

    def resolve(self) -> None:
        """Replace nets that are others, and conditions that the reset has made constant."""
        out, same = self.out, self.same

        def one(net: int) -> int:
            while (other := same.get(net)) is not None:
                net = other
            return net

        for index, cell in enumerate(out.cells):
            if cell.kind == "matches" and all(net < 2 for net in cell.inputs[0]):
                same[index << 16] = _constant_match(cell)
        for index, cell in enumerate(out.cells):
            if cell.kind == "first" and cell.width == 1:
                enable, bit = one(cell.inputs[0][0]), one(cell.inputs[1][0])
                if 0 in (enable, bit):
                    same[index << 16] = 0
        for index, cell in enumerate(out.cells):
            cell.inputs = [tuple(map(one, nets)) for nets in cell.inputs]
            if cell.kind == "assign":
                _drop(cell)
                if len(cell.inputs) == 1:
                    for bit, net in enumerate(cell.inputs[0]):
                        same[index << 16 | bit] = net
        for cell in out.cells:
            cell.inputs = [tuple(map(one, nets)) for nets in cell.inputs]
        for table in (out.signals, out.outputs):
            for name, nets in table.items():
                table[name] = tuple(map(one, nets))
        for group in out.groups:
            for places in group.inputs:
                for index, nets in places.items():
                    places[index] = tuple(map(one, nets))


def _constant_match(cell: Cell) -> int:
    value = cell.inputs[0]
    return int(
        any(
            all(want in ("-", str(net)) for want, net in zip(reversed(p), value, strict=True))
            for p in cell.patterns
        )
    )


def _drop(cell: Cell) -> None:
    """Leave out assignments that never are made."""
    inputs, starts = [cell.inputs[0]], []
    for n, start in enumerate(cell.starts):
        condition, value = cell.inputs[1 + 2 * n : 3 + 2 * n]
        if condition != (0,):
            inputs += [condition, value]
            starts.append(start)
    cell.inputs, cell.starts = inputs, starts


def _cuts(netlist: Any) -> set[int]:
    """Return where uses of the inputs begin and end."""
    out: set[int] = set()
    for cell in netlist.cells:
        values = _converted(cell, 0, int).inputs if not isinstance(cell, nir.Top) else []
        for value in values:
            for piece in pieces(value):
                if piece.cell == 0 and not all(net < 2 for net in value):
                    at = piece.at
                    run = value[at : at + piece.length]
                    out |= {run[0], run[-1] + 1}
    return out


def _resettable(cells: list[Any], reset: int) -> set[int]:
    """Return the registers that the reset sets to their initial value."""
    matches = {
        index
        for index, cell in enumerate(cells)
        if isinstance(cell, nir.Matches) and int(cell.value[0]) == reset
    }
    firsts = {
        index
        for index, cell in enumerate(cells)
        if isinstance(cell, nir.PriorityMatch) and int(cell.inputs[0]) >> 16 in matches
    }
    out = set()
    for index, cell in enumerate(cells):
        if isinstance(cell, nir.FlipFlop):
            source: Any = cells[int(cell.data[0]) >> 16] if int(cell.data[0]) > 1 else None
            if isinstance(source, nir.AssignmentList) and source.assignments:
                last = source.assignments[-1]
                if int(last.cond) >> 16 in firsts:
                    out.add(index)
    return out


def _enables(bits: Nets) -> Nets:
    """Return one enable for as many bits as always have the same."""
    size = len(bits)
    for grain in range(size, 0, -1):
        if size % grain == 0:
            blocks = [bits[low : low + grain] for low in range(0, size, grain)]
            if all(len(set(block)) == 1 for block in blocks):
                return tuple(block[0] for block in blocks)
    raise AssertionError(bits)


def _converted(cell: Any, base: int, to: Any) -> Cell:
    """Return a cell of Amaranth's as one of ours."""

    def nets(value: Any) -> Nets:
        return tuple(map(to, value))

    match cell:
        case nir.FlipFlop():
            return Cell("ff", len(cell.data), [nets(cell.data)], init=cell.init)
        case nir.Operator():
            return Cell(cell.operator, cell.width, [nets(value) for value in cell.inputs])
        case nir.Part():
            inputs = [nets(cell.value), nets(cell.offset)]
            return Cell("part", cell.width, inputs, stride=cell.stride, flag=cell.value_signed)
        case nir.Matches():
            return Cell("matches", 1, [nets(cell.value)], patterns=cell.patterns)
        case nir.PriorityMatch():
            return Cell("first", len(cell.inputs), [nets([cell.en]), nets(cell.inputs)])
        case nir.AssignmentList():
            inputs = [nets(cell.default)]
            for item in cell.assignments:
                inputs += [nets([item.cond]), nets(item.value)]
            starts = [item.start for item in cell.assignments]
            return Cell("assign", len(cell.default), inputs, starts)
        case nir.Memory():
            return Cell("memory", cell.width, depth=cell.depth, init=tuple(cell.init))
        case nir.SyncWritePort():
            inputs = [nets(cell.data), nets(cell.addr), _enables(nets(cell.en))]
            return Cell("write", len(cell.data), inputs, memory=base + cell.memory)
        case nir.AsyncReadPort():
            return Cell("aread", cell.width, [nets(cell.addr)], memory=base + cell.memory)
        case nir.SyncReadPort():
            inputs = [nets(cell.addr), nets([cell.en])]
            ports = tuple(base + port for port in cell.transparent_for)
            return Cell("sread", cell.width, inputs, memory=base + cell.memory, ports=ports)
        case nir.SyncProperty() if cell.kind == "assert":
            chunks = cell.format.chunks if cell.format else ()
            text = "".join(chunk for chunk in chunks if isinstance(chunk, str))
            return Cell("assert", 0, [nets([cell.test]), nets([cell.en])], text=text)
        case nir.Instance():
            return Cell("none", 0, [nets(value) for value in cell.ports_i.values()])
    raise WordsError(f"Words cannot run the cell {cell!r}")
