# SPDX-License-Identifier: BSD-2-Clause
"""Reads Amaranth's netlist of a component: the elaboration that also makes the Verilog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Private modules, so the version of Amaranth is pinned.
from amaranth.hdl import Value, _ir, _nir  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.lib import wiring

from diptych_sim.engine.emit import deep_recursion
from diptych_sim.engine.errors import EngineError
from diptych_sim.engine.loops import loops_by_cells

__all__ = ["Chunk", "Design", "NetlistError", "Port", "chunks", "read_netlist"]

nir: Any = _nir
ir: Any = _ir


class NetlistError(EngineError):
    """The lane engine cannot run the hardware; the message names the cell."""


@dataclass(frozen=True)
class Chunk:
    """Bits ``start`` to ``stop`` of cell ``cell``, at position ``at`` of a value."""

    cell: int
    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class Port:
    """A port of the top; ``nets`` of an input are bits of cell 0."""

    name: str
    nets: tuple[int, ...]


@dataclass
class Design:
    """A netlist with one clock, and what its registers are called.

    Attributes
    ----------
    cells : list
        NIR cells; a net is ``cell << 16 | bit``, and 0 and 1 are constants.
    inputs, outputs : dict of str to Port
        Ports, without clock and reset.
    reset : int
        Net of the reset.
    names : dict of int to str
        Names of flip-flops, memories and read ports by cell, with their modules.
    aliases : dict of str to str
        Further names of registers.
    fields : list
        Nets of each structured signal, with the nets of its fields and whether they are outermost.
    resettable : frozenset of int
        Flip-flops that the reset sets to their initial value. Nothing else depends on it.
    """

    cells: list[Any]
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    reset: int
    names: dict[int, str]
    aliases: dict[str, str]
    fields: list[tuple[tuple[int, ...], list[tuple[bool, tuple[int, ...]]]]]
    resettable: frozenset[int]


def chunks(nets: tuple[int, ...]) -> list[Chunk]:
    """Split a value where its source changes; constants (cell 0, bits 0 and 1) stay single."""
    out: list[Chunk] = []
    for at, net in enumerate(nets):
        cell, bit = int(net) >> 16, int(net) & 0xFFFF
        last = out[-1] if out else None
        constant = int(net) < 2
        if last and not constant and last.cell == cell and last.stop == bit:
            out[-1] = Chunk(cell, last.start, bit + 1, last.at)
        else:
            out.append(Chunk(cell, bit, bit + 1, at))
    return out


def read_netlist(component: wiring.Component, name: str) -> Design:
    """Return the netlist of a component in the ``sync`` domain.

    Raises
    ------
    NetlistError
        If it has more than one clock.
    """
    ports = []
    for path, member, value in component.signature.flatten(component):
        way = ir.PortDirection.Input if member.flow is wiring.In else ir.PortDirection.Output
        ports.append(("__".join(map(str, path)), Value.cast(value), way))
    with deep_recursion(), loops_by_cells():
        fragment = ir.Fragment.get(component, None)
        netlist = ir.build_netlist(fragment, ports=ports, name=name)
    top = netlist.top
    inputs = {
        port: Port(port, tuple(range(start, start + width)))
        for port, (start, width) in top.ports_i.items()
    }
    clock = inputs.pop("clk", None)
    reset = inputs.pop("rst", None)
    if clock is None or reset is None:
        raise NetlistError(f"{name} must have a clock and a reset")
    for index, cell in enumerate(netlist.cells):
        edge = getattr(cell, "clk", None)
        if edge is not None and (int(edge), cell.clk_edge) != (clock.nets[0], "pos"):
            raise NetlistError(f"{name} must have one clock; cell {index} has another: {cell!r}")
    outputs = {port: Port(port, tuple(map(int, nets))) for port, nets in top.ports_o.items()}
    names = _names(netlist)
    return Design(
        cells=list(netlist.cells),
        inputs=inputs,
        outputs=outputs,
        reset=reset.nets[0],
        names=names,
        aliases=_aliases(netlist, names),
        fields=[
            (
                tuple(map(int, netlist.signals[signal])),
                [(len(path) == 1, tuple(map(int, f.value))) for path, f in fields.items() if path],
            )
            for signal, fields in netlist.signal_fields.items()
            if signal in netlist.signals
        ],
        resettable=_resettable(netlist.cells, reset.nets[0], name),
    )


def _resettable(cells: list[Any], reset: int, name: str) -> frozenset[int]:
    """Return the flip-flops with a reset, and refuse any other use of it."""
    users: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        for net in cell.input_nets():
            users.setdefault(int(net) >> 16, []).append(index)
        uses = index and any(int(net) == reset for net in cell.input_nets())
        if uses and not isinstance(cell, nir.Matches):
            raise NetlistError(f"{name} must use its reset for flip-flops only, not {cell!r}")
    out = set()
    for match, cell in enumerate(cells):
        if not isinstance(cell, nir.Matches) or int(cell.value[0]) != reset:
            continue
        for priority in users.get(match, ()):
            for assign in users.get(priority, ()):
                last = cells[assign].assignments[-1] if assign else None
                if last is None or int(last.cond) >> 16 != priority:
                    raise NetlistError(f"{name} must use its reset for flip-flops only")
                out |= {
                    user
                    for user in users.get(assign, ())
                    if isinstance(cells[user], nir.FlipFlop)
                    and all(int(net) >> 16 == assign for net in cells[user].data)
                }
    return frozenset(out)


def _aliases(netlist: Any, names: dict[int, str]) -> dict[str, str]:
    """Return the names that registers have in other modules, as their ports."""
    out = {}
    for module in netlist.modules:
        path = ".".join(module.name[1:])
        for signal, name in module.signal_names.items():
            nets = netlist.signals[signal]
            first = int(nets[0]) if len(nets) else 0
            index = first >> 16
            cell = netlist.cells[index]
            exact = isinstance(cell, nir.FlipFlop) and len(nets) == len(cell.data)
            if exact and all(int(net) == first + bit for bit, net in enumerate(nets)):
                full = f"{path}.{name}" if path else name
                if full != names[index]:
                    out[full] = names[index]
    return out


def _names(netlist: Any) -> dict[int, str]:
    """Name stateful cells after the signals that they drive."""
    names: dict[int, str] = {}
    whole: set[int] = set()
    for module in netlist.modules:
        path = ".".join(module.name[1:])
        for signal, name in module.signal_names.items():
            nets = netlist.signals[signal]
            cells = {net.cell for net in nets if int(net) >= 2}
            for index in cells:
                cell = netlist.cells[index]
                if not isinstance(cell, (nir.FlipFlop, nir.SyncReadPort)):
                    continue
                width = len(cell.data) if isinstance(cell, nir.FlipFlop) else cell.width
                own = netlist.modules[cell.module_idx] is module
                exact = len(nets) == width and all(n.cell == index for n in nets)
                if index not in names or (own and exact and index not in whole):
                    names[index] = f"{path}.{name}" if path else name
                    if own and exact:
                        whole.add(index)
    for index, cell in enumerate(netlist.cells):
        if isinstance(cell, nir.Memory):
            path = ".".join((*netlist.modules[cell.module_idx].name[1:], cell.name))
            names[index] = path
    return names
