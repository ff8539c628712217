# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a matrix-vector product for the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from diptych.mesh.fabric import LOAD_COLOR, Combine, Load, Port
from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import (
    KernelError,
    MeshKernel,
    choose_sram,
    load_route,
    packet,
    read_back,
    read_task,
    words_of,
)
from diptych_sim.compiler.tile.routes import RouteEntry, check_routes
from diptych_sim.golden.numbers import UNITY

__all__ = ["CompiledGemv", "compile_gemv", "row_product", "sum_routes"]

PRODUCT_TASK, READ_TASK = 0, 1
_UNITY = 1
COLORS = 10


class Color(IntEnum):
    """Colors of a matrix-vector product."""

    LOAD = LOAD_COLOR
    PARTIAL = 1
    """Partial sums, on their way to the middle of a row, summed where they meet."""
    SUM = 2
    """Sums, from the middle of the row to all its tiles."""
    READ = 3
    """Results, to the west edge."""


@dataclass(frozen=True)
class _Layout:
    """How a product lies in a tile; sizes in bytes unless they say elements."""

    inputs: int
    """Elements of x in a column, a multiple of 8."""
    outputs: int
    """Elements of y in a row."""
    stride: int
    y: int
    weights: int
    end: int


@dataclass(frozen=True)
class CompiledGemv:
    """A product for a mesh."""

    kernel: MeshKernel
    outputs: int
    """Elements of y that each row of the mesh holds, and reads back."""


def _layout(k: int, n: int, rows: int, columns: int) -> _Layout:
    inputs = (-(-k // columns) + 7) // 8 * 8
    outputs = -(-n // rows)
    # An even number of words a row, an odd number of words from x to the weights: then the two
    # words of a step never lie in the same of four banks.
    stride = inputs if inputs == 8 else (inputs + 15) // 16 * 16
    y = inputs
    weights = y + (4 * outputs + 7) // 8 * 8
    if weights % 16 == 0:
        weights += 8
    return _Layout(inputs, outputs, stride, y, weights, weights + outputs * stride)


def compile_gemv(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    *,
    rows: int,
    columns: int,
    sram_bytes: int | None = None,
) -> CompiledGemv:
    """Compile ``w @ x`` (int8 [N, K], int8 [K]) for a mesh; int32 results.

    The vector lies in place: columns of the mesh hold parts of x, the same in every row; rows of
    the mesh get parts of y, the same in every column, which is how the next product may take them.
    Each tile multiplies its block of w. A finished row of it leaves at once, meets the other
    tiles' in the fabric, and the sum comes back while the tiles are at the next rows.

    Raises
    ------
    KernelError
        If it does not fit into the tiles.
    """
    n, k = w.shape
    at = _layout(k, n, rows, columns)
    size = choose_sram(at.end, sram_bytes)
    if size is None:
        raise KernelError(_too_small(k, n, rows, columns, at.end, sram_bytes or 65536))
    program = _program(at)
    start = packet(Load.ACTIVATE, PRODUCT_TASK, [], 0, columns - 1)
    padded = np.zeros((rows * at.outputs, columns * at.inputs), np.int8)
    padded[:n, :k] = w
    inputs = np.zeros(columns * at.inputs, np.int8)
    inputs[:k] = x
    words = program.words()
    entry = program.place("read")
    tables = [_routes(c, columns) for c in range(columns)]
    check_routes([tables] * rows)
    load = []
    for r in range(rows):
        row = packet(Load.PROGRAM, 0, words, 0, columns - 1)
        row += packet(Load.TASK, PRODUCT_TASK, [0, entry], 0, columns - 1)
        row += packet(Load.REGISTER, _UNITY, [UNITY], 0, columns - 1)
        for c in range(columns):
            row += packet(Load.ROUTE, 0, [route.word() for route in tables[c]], c)
            part = slice(c * at.inputs, (c + 1) * at.inputs)
            row += packet(Load.WORDS, 0, words_of(inputs[part]), c)
            block = np.zeros((at.outputs, at.stride), np.int8)
            block[:, : at.inputs] = padded[r * at.outputs : (r + 1) * at.outputs, part]
            row += packet(Load.WORDS, at.weights, words_of(block), c)
        load.append(row)
    kernel = MeshKernel(
        rows=rows,
        columns=columns,
        colors=COLORS,
        sram_bytes=size,
        program=program,
        load=load,
        start=[start] * rows,
        readbacks=[read_back(rows, 0, at.y, at.outputs, READ_TASK, Color.READ)],
        color_names={color.value: color.name for color in Color},
    )
    return CompiledGemv(kernel, at.outputs)


def _too_small(k: int, n: int, rows: int, columns: int, needed: int, size: int) -> str:
    would = next((s for s in range(1, 129) if _layout(k, n, s, s).end <= size), None)
    return (
        f"Product of {k} inputs and {n} outputs needs {needed} bytes of SRAM in each tile of a "
        f"{rows}x{columns} mesh, not {size}; "
        + (f"a {would}x{would} mesh would do" if would else "no mesh up to 128x128 would do")
    )


def row_product(
    program: Assembler,
    *,
    weights: int,
    x: int,
    y: int,
    outputs: int,
    inputs: int,
    stride: int,
    partial: int,
    total: int,
    unity: int,
) -> None:
    """Append a task: a tile's int8 weights [outputs, inputs] times ``x``, added along its row.

    Rows of weights are ``stride`` bytes apart. Sums leave with the color ``partial`` and come as
    ``total`` to those tiles that the routes say, which keep them at ``y`` as int32; the register
    ``unity`` holds the scale of one.
    """
    program.vector(
        Op.RECEIVE,
        color=total,
        count=outputs,
        d_base=y,
        d_type=Type.INT32,
        stride=4,
        bits=32,
        b_reg=unity,
        dynamic=unity,
        comment="sums of the row",
    )
    program.vector(
        Op.MATVEC,
        a_base=weights,
        b_base=x,
        count=outputs,
        inner=inputs // 8,
        stride=stride,
        to_color=1,
        color=partial,
        comment="the tile's block",
    )
    program.scalar(Function.END)


def _program(at: _Layout) -> Assembler:
    program = Assembler()
    row_product(
        program,
        weights=at.weights,
        x=0,
        y=at.y,
        outputs=at.outputs,
        inputs=at.inputs,
        stride=at.stride,
        partial=Color.PARTIAL,
        total=Color.SUM,
        unity=_UNITY,
    )
    read_task(program, Color.READ)
    return program


def _routes(column: int, columns: int) -> list[RouteEntry]:
    """Return the routes of a tile by color."""
    return [load_route(column, columns), *sum_routes(column, columns, Color.PARTIAL, Color.SUM)]


def sum_routes(column: int, columns: int, partial: int, total: int) -> list[RouteEntry]:
    """Return the routes of partial sums, which meet in the middle of a row, and of what goes back."""
    root = columns // 2
    sides = [
        port
        for port, there in ((Port.WEST, column > 0), (Port.EAST, column + 1 < columns))
        if there
    ]
    ramp = Port.RAMP
    if column == root:
        both = frozenset([*sides, ramp])
        return [RouteEntry(both, both, Combine.ADD, total), RouteEntry()]
    toward, away = (Port.EAST, Port.WEST) if column < root else (Port.WEST, Port.EAST)
    outer = frozenset([away]) & frozenset(sides)
    return [
        RouteEntry(outer | {ramp}, frozenset([toward]), Combine.ADD, partial),
        RouteEntry(frozenset([toward]), outer | {ramp}, color=total),
    ]
