# SPDX-License-Identifier: BSD-2-Clause
"""Compiles broadcasts and reductions of vectors for the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS
from diptych.mesh.fabric import Combine, Load, Port
from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.collectives.algorithms import (
    Tree,
    along_lines,
    fabric_broadcast,
    fabric_reduce,
    keep_own,
    spanning_tree,
)
from diptych_sim.compiler.collectives.plan import (
    GATHER,
    CollectiveError,
    Line,
    Move,
    Place,
    Plan,
    line,
)
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import packet, receive_words, send_words
from diptych_sim.compiler.tile.routes import check_routes

__all__ = [
    "ALGORITHMS",
    "Collective",
    "CompiledCollective",
    "Operation",
    "Over",
    "compile_collective",
    "expected_results",
    "plan_collective",
]

Operation = Literal["broadcast", "reduce", "allreduce"]
Over = Literal["mesh", "rows", "columns"]
ALGORITHMS = ("chain", "tree", "two-phase", "fabric")
RUN_TASK, GATHER_TASK = 0, 1
_DELAY = 2
_TURN = 3
"""Cycles of a turn of the loop that waits."""
"""Register of the loop that waits for the start."""
PROGRAM_DEPTH = 256
COLOR_COUNTS = (10, 16, 24)
"""Numbers of colors of a mesh that are chosen from, the smallest that does."""


@dataclass(frozen=True, kw_only=True)
class Collective:
    """A collective on a mesh.

    Attributes
    ----------
    operation : "broadcast", "reduce" or "allreduce"
        What to do with the vectors, one in each tile.
    algorithm : str
        One of :data:`ALGORITHMS`.
    rows, columns, words : int
        The mesh, and 32-bit words of a vector.
    over : "mesh", "rows" or "columns"
        Which tiles belong together: all, or those of each row or column by itself.
    combine : Combine
        ADD, MAX, or ARGMAX (words are pairs of key and index; in the fabric only).
    hop_cycles : int
        Cycles of a hop.

    Raises
    ------
    CollectiveError
        If there is no such collective.
    """

    operation: Operation
    algorithm: str
    rows: int
    columns: int
    words: int
    over: Over = "mesh"
    combine: Combine = Combine.ADD
    hop_cycles: int = 1

    def __post_init__(self) -> None:
        if self.combine is Combine.ARGMAX and self.operation != "broadcast":
            if self.algorithm != "fabric":
                raise CollectiveError(
                    f"Algorithm of an arg-max must be fabric, not {self.algorithm}"
                )
            if self.words % 2:
                raise CollectiveError(
                    f"Words of an arg-max must be pairs of key and index, not {self.words}"
                )

    def groups(self) -> list[tuple[range, range]]:
        """Return the rows and columns of each group of tiles that belong together."""
        rows, columns = range(self.rows), range(self.columns)
        if self.over == "rows":
            return [(range(r, r + 1), columns) for r in rows]
        if self.over == "columns":
            return [(rows, range(c, c + 1)) for c in columns]
        return [(rows, columns)]

    @property
    def members(self) -> int:
        """Tiles of a group."""
        rows, columns = self.groups()[0]
        return len(rows) * len(columns)

    def roots(self) -> list[Place]:
        """Return where each group's vector comes from, or its result goes to first.

        The first tile; the middle one where the fabric brings the result back.
        """
        middle = self.algorithm == "fabric" and self.operation == "allreduce"
        return [
            (rows[len(rows) // 2 if middle else 0], columns[len(columns) // 2 if middle else 0])
            for rows, columns in self.groups()
        ]

    def trees(self) -> list[Tree]:
        """Return a spanning tree of each group."""
        return [
            spanning_tree(root, *group)
            for root, group in zip(self.roots(), self.groups(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class CompiledCollective:
    """A collective with everything that enters the mesh at its west edge, by row.

    Attributes
    ----------
    load, start, gather : list of list of int
        Words of load packets: everything; what starts it; what reads the results.
    waited : list of int
        Instructions of each tile before its first move.
    written : list of int
        Bytes that each tile writes.
    """

    collective: Collective
    plan: Plan
    program: Assembler
    colors: int
    load: list[list[int]]
    start: list[list[int]]
    gather: list[list[int]]
    waited: list[int]
    written: list[int]


def _lines(c: Collective) -> tuple[list[Line], list[Line]]:
    """Return lines along the rows, and those along columns which join their first tiles."""
    rows = [line((r, 0), Port.EAST, c.columns) for r in range(c.rows)]
    columns = [line((0, n), Port.SOUTH, c.rows) for n in range(c.columns)]
    if c.over == "rows":
        return rows, []
    if c.over == "columns":
        return [], columns
    return rows, columns[:1]


def plan_collective(c: Collective) -> Plan:
    """Return moves and routes of a collective.

    Raises
    ------
    CollectiveError
        If it needs too many colors.
    """
    plan = Plan(c.rows, c.columns, c.combine)
    rows, columns = _lines(c)
    if c.operation == "broadcast":
        if c.algorithm == "fabric":
            fabric_broadcast(plan, c.trees())
        else:
            for ways in (columns, rows):
                if ways:
                    along_lines(plan, ways, c.algorithm, broadcast=True)
        return plan
    everywhere = c.operation == "allreduce"
    if c.algorithm == "fabric":
        fabric_reduce(plan, c.trees(), everywhere=everywhere)
        return plan
    for ways in (rows, columns):
        if ways:
            along_lines(plan, ways, c.algorithm, broadcast=False)
    keep_own(plan, c.roots())
    if everywhere and c.members > 1:
        fabric_broadcast(plan, c.trees())
    return plan


def expected_results(
    c: Collective, vectors: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Return what each tile must hold [rows, columns, words], and whether it must.

    Of vectors [rows, columns, words], by NumPy alone.
    """
    results = np.zeros_like(vectors)
    must = np.zeros(vectors.shape[:2], bool)
    for (rows, columns), root in zip(c.groups(), c.roots(), strict=True):
        part = vectors[rows.start : rows.stop, columns.start : columns.stop]
        flat = part.reshape(-1, c.words)
        if c.operation == "broadcast":
            result = vectors[root]
        elif c.combine is Combine.ADD:
            result = flat.sum(0, dtype=np.uint64).astype(np.uint32)
        elif c.combine is Combine.MAX:
            result = flat.view(np.int32).max(0).view(np.uint32)
        else:
            result = _arg_max(flat)
        for r in rows:
            for column in columns:
                here = (r, column) == root
                must[r, column] = here if c.operation == "reduce" else True
                if c.operation == "broadcast" and here:
                    must[r, column] = False  # it has the vector, and no copy
                results[r, column] = result
    return results, must


def _arg_max(flat: NDArray[np.uint32]) -> NDArray[np.uint32]:
    keys, indices = flat[:, 0::2].view(np.int32), flat[:, 1::2]
    # The last key of a sort is the first to count: largest key, then smallest index.
    best = np.lexsort((~indices, keys), axis=0)[-1]
    at = np.arange(keys.shape[1])
    result = np.empty(flat.shape[1], np.uint32)
    result[0::2] = keys[best, at].view(np.uint32)
    result[1::2] = indices[best, at]
    return result


def _append(program: Assembler, c: Collective, move: Move, result: int) -> None:
    if move.background:
        assert move.joins is not None
        receive_words(program, move.joins, c.words, d_base=result, comment="result")
        return
    joins = move.joins is not None
    program.vector(
        Op.MOVE,
        count=c.words,
        a_base=result if move.memory == "result" else 0,
        a_type=Type.INT32 if move.memory else Type.NONE,
        accumulate=joins,
        bits=move.joins or 0,
        argmax=joins and move.memory is not None and c.combine is Combine.MAX,
        d_base=result,
        d_type=Type.INT32 if move.store else Type.NONE,
        to_color=move.sends is not None,
        color=move.sends or 0,
    )


def compile_collective(
    c: Collective, vectors: NDArray[np.uint32], *, sram_bytes: int = DEFAULTS.sram_bytes
) -> CompiledCollective:
    """Compile a collective of vectors [rows, columns, words].

    A tile's vector lies at address 0 and its result behind it. All tiles start in one cycle: a
    packet that starts them passes a column in ``hop_cycles``, and each waits for the last one.

    Raises
    ------
    CollectiveError
        If it does not fit.
    """
    result = 8 * -(-c.words // 2)
    if 2 * result > sram_bytes:
        raise CollectiveError(
            f"Words must be at most {sram_bytes // 8}, as a vector and its result must fit into "
            f"{sram_bytes} bytes, not {c.words}"
        )
    plan = plan_collective(c)
    tables = plan.tables()
    check_routes(tables)
    colors = next(count for count in COLOR_COUNTS if count >= plan.color_count)

    program = Assembler()
    send_words(program, GATHER, result, c.words, control=1, comment="results leave")
    program.scalar(Function.END)
    entries: dict[tuple[Move, ...], int] = {}
    for moves in plan.moves.values():
        key = tuple(moves)
        if key in entries:
            continue
        entries[key] = start = len(program.instructions)
        for _ in range(_TURN - 1):
            program.scalar(Function.ADD, comment="waits a cycle")
        program.label(f"wait_{start}")
        program.scalar(Function.ADD, d=_DELAY, a=_DELAY, imm=-1, comment="waits for all to start")
        program.branch(_DELAY, f"wait_{start}")
        for move in moves:
            _append(program, c, move, result)
        program.scalar(Function.END)
    if len(program.instructions) > PROGRAM_DEPTH:
        raise CollectiveError(
            f"Program must have at most {PROGRAM_DEPTH} instructions, "
            f"not {len(program.instructions)}"
        )

    last = c.columns - 1
    load, waited = [], []
    for r in range(c.rows):
        words = packet(Load.PROGRAM, 0, program.words(), 0, last)
        for column in range(c.columns):
            table = tables[r][column]
            words += packet(Load.ROUTE, 1, [entry.word() for entry in table[1:]], column)
            for address, word in table[GATHER].words(GATHER)[1:]:
                words += packet(Load.ROUTE, address, [word], column)
            wait = 2 + (last - column) * c.hop_cycles
            # The last turn, which does not go back, is a cycle shorter.
            turns, more = divmod(wait + 1, _TURN)
            entry = entries[tuple(plan.moves[r, column])] + _TURN - 1 - more
            waited.append(more + 2 * turns)
            words += packet(Load.REGISTER, _DELAY, [turns], column)
            words += packet(Load.TASK, RUN_TASK, [entry, 0], column)
            words += packet(Load.WORDS, 0, vectors[r, column].tolist(), column)
        load.append(words)
    writes = {place: sum(move.store for move in moves) for place, moves in plan.moves.items()}
    return CompiledCollective(
        collective=c,
        plan=plan,
        program=program,
        colors=colors,
        load=load,
        start=[packet(Load.ACTIVATE, RUN_TASK, [], 0, last)] * c.rows,
        gather=[packet(Load.ACTIVATE, GATHER_TASK, [], 0, last)] * c.rows,
        waited=waited,
        written=[4 * c.words * writes[place] for place in plan.places()],
    )
