# SPDX-License-Identifier: BSD-2-Clause
"""Compiles one load for a very large mesh: a broadcast, an all-reduce, a matrix-vector product.

What tiles have in common is loaded once for a range of columns: a packet for each of a million
tiles would take far longer than what they do then.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from diptych.mesh.fabric import LOAD_COLOR, Combine, Load, Port
from diptych.mesh.isa import Function
from diptych_sim.compiler.collectives.algorithms import spanning_tree
from diptych_sim.compiler.mesh_kernels.gemv import row_product, sum_routes
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import (
    load_route,
    packet,
    receive_words,
    send_words,
    words_of,
)
from diptych_sim.compiler.tile.routes import RouteEntry
from diptych_sim.golden.numbers import UNITY

__all__ = ["At", "Task", "Wafer", "compile_wafer", "route_table"]

INPUTS, OUTPUTS, WORDS = 8, 2, 16
"""Elements of x in a column and of y in a row; words of a vector in a tile."""
PROGRAM_DEPTH = 32
SRAM_BYTES = 1024
GROUPS = 31
"""Ranges of columns, of random width, with the same data in a row."""
_UNITY = 2


class Color(IntEnum):
    """Colors."""

    LOAD = LOAD_COLOR
    BROADCAST = 1
    PARTIAL = 2
    RESULT = 3
    ROW = 4
    SUM = 5


class Task(IntEnum):
    """Tasks of every tile."""

    BROADCAST = 0
    ALL_REDUCE = 1
    PRODUCT = 2


class At(IntEnum):
    """Byte addresses in a tile: x, y and weights, a vector, and what the collectives give."""

    X = 0
    Y = 8
    WEIGHTS = 24
    VECTOR = 64
    COPY = 128
    SUM = 192


@dataclass(frozen=True)
class Wafer:
    """Words that enter a mesh, and the contents that each tile must have then.

    Attributes
    ----------
    load : list of list of int
        Words of load packets by row.
    copy, total : ndarray of uint32, [WORDS]
        The vector of the first tile, and the sum of all tiles' vectors.
    y : ndarray of int32, [rows, OUTPUTS]
        The product, by row.
    """

    rows: int
    columns: int
    load: list[list[int]]
    copy: NDArray[np.uint32]
    total: NDArray[np.uint32]
    y: NDArray[np.int32]

    def start(self, task: Task) -> list[list[int]]:
        """Return the words that start a task in all tiles, by row."""
        return [packet(Load.ACTIVATE, task, [], 0, self.columns - 1)] * self.rows


def route_table(row: int, column: int, rows: int, columns: int) -> list[RouteEntry]:
    """Return the routes of a tile by color; those of the collectives are trees of the fabric."""
    near = (
        range(max(row - 1, 0), min(row + 2, rows)),
        range(max(column - 1, 0), min(column + 2, columns)),
    )
    place, middle = (row, column), (rows // 2, columns // 2)
    # A tile's place in a tree depends on where the root lies and which neighbors there are.
    first = spanning_tree((min(near[0].start, row), min(near[1].start, column)), *near)
    parent, children = first[place] if place != (0, 0) else (None, first[place][1])
    if parent is not None and column:
        children = [port for port in children if port is Port.EAST]
    ramp = Port.RAMP
    copies = RouteEntry(
        frozenset([ramp if parent is None else parent]),
        frozenset(children) | (frozenset() if parent is None else {ramp}),
        color=Color.BROADCAST,
    )
    root = (
        min(max(middle[0], near[0].start), near[0].stop - 1),
        min(max(middle[1], near[1].start), near[1].stop - 1),
    )
    parent, below = spanning_tree(root, *near)[place]
    sources = frozenset([ramp, *below])
    if parent is None:
        reduce = [RouteEntry(sources, sources, Combine.ADD, Color.RESULT), RouteEntry()]
    else:
        reduce = [
            RouteEntry(
                sources,
                frozenset([parent]),
                Combine.ADD if below else Combine.FORWARD,
                Color.PARTIAL,
            ),
            RouteEntry(frozenset([parent]), sources, color=Color.RESULT),
        ]
    sums = sum_routes(column, columns, Color.ROW, Color.SUM)
    return [load_route(column, columns), copies, *reduce, *sums]


def _program() -> tuple[Assembler, dict[str, int]]:
    """Return the program and where each task begins; ``root`` is the broadcast's of the first tile."""
    program, entries = Assembler(), {}
    entries["root"] = 0
    send_words(program, Color.BROADCAST, At.VECTOR, WORDS, comment="to all")
    program.scalar(Function.END)
    entries["broadcast"] = len(program.instructions)
    receive_words(program, Color.BROADCAST, WORDS, d_base=At.COPY, comment="a copy")
    program.scalar(Function.END)
    entries["reduce"] = len(program.instructions)
    receive_words(program, Color.RESULT, WORDS, d_base=At.SUM, comment="the sum")
    send_words(program, Color.PARTIAL, At.VECTOR, WORDS, comment="own vector")
    program.scalar(Function.END)
    entries["product"] = len(program.instructions)
    row_product(
        program,
        weights=At.WEIGHTS,
        x=At.X,
        y=At.Y,
        outputs=OUTPUTS,
        inputs=INPUTS,
        stride=INPUTS,
        partial=Color.ROW,
        total=Color.SUM,
        unity=_UNITY,
    )
    return program, entries


def _ranges(rng: np.random.Generator, columns: int) -> list[tuple[int, int]]:
    """Return random ranges, first and last column, that cover a row."""
    count = min(GROUPS, columns) - 1
    cuts = sorted(rng.choice(np.arange(1, columns), count, replace=False).tolist())
    return [(a, b - 1) for a, b in itertools.pairwise([0, *cuts, columns])]


def _common(row: int, rows: int, columns: int, entries: dict[str, int]) -> list[int]:
    """Return packets with the routes and tasks of a row; equal neighbors share them."""
    last = columns - 1
    tables = [route_table(row, column, rows, columns)[1:] for column in range(columns)]
    words: list[int] = []
    for _, group in itertools.groupby(range(columns), key=lambda column: tables[column]):
        same = list(group)
        table = [entry.word() for entry in tables[same[0]]]
        words += packet(Load.ROUTE, 1, table, same[0], same[-1])
    tasks = [entries["broadcast"], entries["reduce"], entries["product"]]
    words += packet(Load.TASK, 0, tasks, 0, last)
    if row == 0:
        words += packet(Load.TASK, Task.BROADCAST, [entries["root"]], 0)
    return words


def compile_wafer(rows: int, columns: int, seed: int) -> Wafer:
    """Compile the load of a mesh of any size, with random data.

    x is the same in every row; vectors and weights differ from row to row, and in a row between
    :data:`GROUPS` ranges of columns.
    """
    rng = np.random.default_rng(seed)
    program, entries = _program()
    last = columns - 1
    begin = packet(Load.PROGRAM, 0, program.words(), 0, last)
    begin += packet(Load.REGISTER, _UNITY, [UNITY], 0, last)
    x = np.zeros((columns, INPUTS), np.int64)
    for low, high in _ranges(rng, columns):
        part = rng.integers(-128, 128, INPUTS).astype(np.int8)
        x[low : high + 1] = part
        begin += packet(Load.WORDS, At.X, words_of(part), low, high)
    kinds = {row: _common(row, rows, columns, entries) for row in _kinds(rows)}
    load, y = [], np.zeros((rows, OUTPUTS), np.int32)
    total, copy = np.zeros(WORDS, np.uint64), np.zeros(WORDS, np.uint32)
    for row in range(rows):
        words = begin + kinds[_kind(row, rows)]
        for low, high in _ranges(rng, columns):
            vector = rng.integers(0, 2**32, WORDS, np.uint32)
            block = rng.integers(-128, 128, (OUTPUTS, INPUTS)).astype(np.int8)
            words += packet(Load.WORDS, At.WEIGHTS, words_of(block), low, high)
            words += packet(Load.WORDS, At.VECTOR, vector.tolist(), low, high)
            total += vector.astype(np.uint64) * np.uint64(high + 1 - low)
            y[row] += (block.astype(np.int64) @ x[low : high + 1].sum(0)).astype(np.int32)
            if row == low == 0:
                copy = vector
        load.append(words)
    return Wafer(rows, columns, load, copy, total.astype(np.uint32), y)


def _kinds(rows: int) -> set[int]:
    return {_kind(row, rows) for row in range(rows)}


def _kind(row: int, rows: int) -> int:
    """Return a row with the same routes and tasks: those between the ends and the middle are alike."""
    middle = rows // 2
    if row in (0, middle, rows - 1):
        return row
    return 1 if row < middle else middle + 1
