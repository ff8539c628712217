# SPDX-License-Identifier: BSD-2-Clause
"""Changes at the clock edge, and what each needs under which condition."""

from __future__ import annotations

from dataclasses import dataclass, field

from .graph import Graph
from .lower import Lowered, Read, Register, Write

__all__ = ["Commit", "Need", "commits_of"]

Need = tuple[int, int | None, bool]
"""A node that an operation uses, and the condition without which it does not (or the inverse)."""
GROUP = 3
"""Registers of a bit that are worth a branch."""


@dataclass
class Commit:
    """A change at the clock edge: of registers, by a memory read or by the writes of a memory.

    Attributes
    ----------
    cell : int
        A cell of the netlist that changes.
    guard : int
        A node without which nothing changes; the constant 1 if there is none.
    needs : list of Need
        What it uses, the guard excepted.
    registers : list of Register
        Registers that change; several are of a bit each, and keep their values together.
    arms : list of (int, list of int)
        Of registers that keep their values otherwise: conditions, and a value for each register;
        the last one that holds wins. Without arms they take ``next``.
    read : Read or None
        A read port.
    writes : list of Write
        All write ports of a memory; the last one wins.
    """

    cell: int
    guard: int
    needs: list[Need]
    registers: list[Register] = field(default_factory=list)
    arms: list[tuple[int, list[int]]] = field(default_factory=list)
    read: Read | None = None
    writes: list[Write] = field(default_factory=list)

    @property
    def changes(self) -> list[int]:
        """Nodes that change."""
        targets = self.read.targets if self.read else []
        return [r.node for r in self.registers] + [node for node, _, _ in targets]


def _arms(graph: Graph, register: Register) -> tuple[list[tuple[int, int]], bool]:
    """Return conditions and values of a register's data, and whether it keeps its value otherwise.

    The last condition that holds wins.
    """
    arms: list[tuple[int, int]] = []
    node = register.next
    while graph.nodes[node].op == "mux":
        condition, value, node = graph.nodes[node].args
        arms.append((condition, value))
    arms.reverse()
    own = any(register.node in arm for arm in arms)
    return arms, bool(arms) and node == register.node and not own


def _kept(graph: Graph, conditions: tuple[int, ...], registers: list[Register]) -> Commit:
    """Return the commit of registers that keep their values under equal conditions."""
    values = [[value for _, value in _arms(graph, register)[0]] for register in registers]
    arms = [(c, [taken[n] for taken in values]) for n, c in enumerate(conditions)]
    needs: list[Need] = [(c, None, True) for c in conditions]
    needs += [(value, c, True) for c, taken in arms for value in taken]
    guard = graph.any_of(conditions)
    return Commit(registers[0].cell, guard, needs, registers=registers, arms=arms)


def commits_of(low: Lowered) -> list[Commit]:
    """Return all changes at a clock edge; none sees what another one does."""
    graph = low.graph
    out: list[Commit] = []
    groups: dict[tuple[int, ...], list[Register]] = {}
    for register in low.registers:
        if register.next == register.node:
            continue
        arms, keeps = _arms(graph, register)
        conditions = tuple(condition for condition, _ in arms)
        if keeps and graph.nodes[register.node].width == 1:
            groups.setdefault(conditions, []).append(register)
        elif keeps:
            out.append(_kept(graph, conditions, [register]))
        else:
            out.append(Commit(register.cell, 1, [(register.next, None, True)], [register]))
    for conditions, members in groups.items():
        if len(members) >= GROUP:
            out.append(_kept(graph, conditions, members))
        else:
            out += [Commit(r.cell, 1, [(r.next, None, True)], [r]) for r in members]
    for read in low.reads:
        if read.enable:
            out.append(Commit(read.cell, read.enable, [(read.address, None, True)], read=read))
    memories: dict[int, list[Write]] = {}
    for write in low.writes:
        if write.enable:
            memories.setdefault(write.memory, []).append(write)
    for memory, writes in memories.items():
        needs = []
        for write in writes:
            needs += [(write.enable, None, True), (write.address, write.enable, True)]
            for node, parts in write.data:
                needs.append((node, write.enable, True))
                needs += [(enable, write.enable, True) for enable, _, _ in parts]
        guard = graph.any_of([write.enable for write in writes])
        out.append(Commit(memory, guard, needs, writes=writes))
    return out
