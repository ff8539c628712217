# SPDX-License-Identifier: BSD-2-Clause
"""Compiles matrix products for the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from diptych.mesh.fabric import MAX_COLORS, Load
from diptych.mesh.isa import Function, Op, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych_sim.compiler.mesh_kernels.gemm_routes import (
    BroadcastColor,
    ShiftColor,
    broadcast_routes,
    ring_place,
    shift_routes,
)
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import (
    KernelError,
    MeshKernel,
    choose_sram,
    packet,
    read_back,
    read_task,
    receive_words,
    words_of,
)
from diptych_sim.compiler.tile.routes import check_routes

__all__ = ["ALGORITHMS", "CompiledMeshGemm", "compile_mesh_gemm"]

ALGORITHMS = ("shift", "broadcast")
PRODUCT_TASK, READ_TASK = 0, 1
PROGRAM_DEPTH = 256
_ROW, _COLUMN = 1, 2
_X, _X_NEXT, _W, _W_NEXT, _LEFT = 3, 4, 5, 6, 7
_X_ROW, _SUMS, _T = 8, 9, 10


@dataclass(frozen=True)
class _Layout:
    """Blocks of a tile, and where they lie; sizes in elements, addresses in bytes."""

    m: int
    k: int
    n: int
    x: list[int]
    """Where blocks of X begin: those that are loaded, or two that take turns."""
    w: list[int]
    own_x: int
    own_w: int
    sums: int
    end: int
    wide: bool
    """X has int16, of which 12 bits count."""

    @property
    def x_row(self) -> int:
        """Bytes of a row of X."""
        return self.k << self.wide

    @property
    def x_bytes(self) -> int:
        return self.m * self.x_row

    @property
    def w_bytes(self) -> int:
        return self.n * self.k


@dataclass(frozen=True)
class CompiledMeshGemm:
    """A product for a mesh, and the block of results of each tile."""

    kernel: MeshKernel
    block: tuple[int, int, int]
    """Elements of M, K and N that a tile multiplies in one step."""


def _layout(
    m: int, k: int, n: int, rows: int, columns: int, algorithm: str, *, wide: bool
) -> _Layout:
    panels = lcm(rows, columns)
    block_m, block_n = -(-m // rows), -(-n // columns)
    # Words of a row; more than are kept at hand have to lie in other banks than W's, by parity.
    words = -(-k // (8 * panels))
    block_k = 8 * (words + (words > HELD_WORDS and words % 2))
    x_bytes, w_bytes = block_m * block_k << wide, block_n * block_k
    # Two words of X that a step reads lie in another pair of banks than W's first one.
    at = 16 if wide else 0
    own_x = at
    if algorithm == "broadcast":
        at += panels // columns * x_bytes
    x = [at, at + x_bytes]
    at += 2 * x_bytes
    if wide:
        at += -at % 32
    elif at % 16 == 0:
        at += 8
    own_w = at
    if algorithm == "broadcast":
        at += panels // rows * w_bytes
    w = [at, at + w_bytes]
    at += 2 * w_bytes
    if algorithm == "shift":
        own_x, own_w = x[0], w[0]
    end = at + 4 * block_m * block_n
    return _Layout(block_m, block_k, block_n, x, w, own_x, own_w, at, end, wide)


def compile_mesh_gemm(
    x: NDArray[np.int8] | NDArray[np.int16],
    w: NDArray[np.int8],
    *,
    mesh: tuple[int, int],
    algorithm: str = "shift",
    sram_bytes: int | None = None,
) -> CompiledMeshGemm:
    """Compile ``x @ w`` (int8 [M, K], int8 [K, N]) for a mesh; int32 results, a block in each tile.

    ``x`` may be int16 of 12 bits, too.

    ``shift``: Cannon's algorithm on a square mesh, interleaved. A tile multiplies the blocks that
    it has while they move on to the next tile of its row and column, at most two hops away. The
    blocks are loaded where the first step needs them. ``broadcast``: SUMMA; in each step one
    column sends its blocks of X along the rows, and one row its blocks of W along the columns, a
    step ahead of their use.

    Raises
    ------
    KernelError
        If it does not fit, or the mesh does not suit the algorithm.
    """
    (m, k), n = x.shape, w.shape[1]
    rows, columns = mesh
    if algorithm == "shift" and rows != columns:
        raise KernelError(
            f"Mesh of the shift algorithm must be square, not {rows}x{columns}; the broadcast "
            f"algorithm takes it"
        )
    if algorithm == "broadcast" and rows + columns + 2 > MAX_COLORS:
        raise KernelError(
            f"Mesh of the broadcast algorithm must have at most {MAX_COLORS - 2} rows and columns "
            f"together, as each needs a color, not {rows}x{columns}"
        )
    wide = x.dtype == np.int16
    at = _layout(m, k, n, rows, columns, algorithm, wide=wide)
    size = choose_sram(at.end, sram_bytes)
    if size is None:
        raise KernelError(_too_small((m, k, n), mesh, algorithm, at, sram_bytes or 65536))
    if max(at.x_bytes, at.w_bytes) // 4 >= 2**16:
        raise KernelError("Blocks must have fewer than 2**16 words")  # not with 64 KiB of SRAM
    panels = lcm(rows, columns)
    program = _shift_program(at, rows) if algorithm == "shift" else _broadcast_program(at, *mesh)
    if len(program.instructions) > PROGRAM_DEPTH:
        raise KernelError(
            f"Steps of the broadcast algorithm must fit into {PROGRAM_DEPTH} instructions, and "
            f"the {panels} of a {rows}x{columns} mesh take {len(program.instructions)}"
        )
    padded_x = np.zeros((rows * at.m, panels * at.k), x.dtype)
    padded_x[:m, :k] = x
    padded_w = np.zeros((columns * at.n, panels * at.k), np.int8)
    padded_w[:n, :k] = w.T
    words, entry = program.words(), program.place("read")
    tables = [
        [
            shift_routes(r, c, rows)
            if algorithm == "shift"
            else broadcast_routes(r, c, rows, columns)
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    check_routes(tables)
    load = []
    for r in range(rows):
        row = packet(Load.PROGRAM, 0, words, 0, columns - 1)
        row += packet(Load.TASK, PRODUCT_TASK, [0, entry], 0, columns - 1)
        for c in range(columns):
            if algorithm == "shift":
                start = (ring_place(r, rows) + ring_place(c, rows)) % rows
                own = [[start], [start]]
            else:
                own = [
                    list(range(line * panels // count, (line + 1) * panels // count))
                    for line, count in ((c, columns), (r, rows))
                ]
            row += packet(Load.ROUTE, 0, [route.word() for route in tables[r][c]], c)
            row += packet(Load.REGISTER, _ROW, [r, c], c)
            for address, matrix, first, block, steps in (
                (at.own_x, padded_x, r * at.m, at.m, own[0]),
                (at.own_w, padded_w, c * at.n, at.n, own[1]),
            ):
                part = matrix[first : first + block]
                blocks = [part[:, step * at.k : (step + 1) * at.k] for step in steps]
                row += packet(Load.WORDS, address, words_of(np.stack(blocks)), c)
        load.append(row)
    colors = ShiftColor if algorithm == "shift" else BroadcastColor
    names = {color.value: color.name for color in colors}
    if algorithm == "broadcast":
        first = BroadcastColor.FIRST.value
        names |= {first + c: f"X_OF_COLUMN_{c}" for c in range(columns)}
        names |= {first + columns + r: f"W_OF_ROW_{r}" for r in range(rows)}
    kernel = MeshKernel(
        rows=rows,
        columns=columns,
        colors=10 if algorithm == "shift" else max(10, rows + columns + 2),
        sram_bytes=size,
        program=program,
        load=load,
        start=[packet(Load.ACTIVATE, PRODUCT_TASK, [], 0, columns - 1)] * rows,
        readbacks=[
            read_back(rows, c, at.sums, at.m * at.n, READ_TASK, ShiftColor.READ)
            for c in range(columns)
        ],
        color_names=names,
    )
    return CompiledMeshGemm(kernel, (at.m, at.k, at.n))


def _too_small(
    shape: tuple[int, int, int], mesh: tuple[int, int], algorithm: str, at: _Layout, size: int
) -> str:
    largest = 128 if algorithm == "shift" else MAX_COLORS // 2 - 1
    sides = range(1, largest + 1)
    fits = (s for s in sides if _layout(*shape, s, s, algorithm, wide=at.wide).end <= size)
    would = next(fits, None)
    m, k, n = shape
    return (
        f"Product {m}x{k}x{n} needs {at.end} bytes of SRAM in each tile of a {mesh[0]}x{mesh[1]} "
        f"mesh, not {size}; "
        + (
            f"a {would}x{would} mesh would do"
            if would
            else f"no mesh up to {largest}x{largest} would do"
        )
    )


def _multiply(program: Assembler, at: _Layout, label: str, *, accumulate: bool) -> None:
    """Append a step: the block of X, a row at a time, by the block of W."""
    s = program.scalar
    s(Function.ADD, d=_X_ROW, a=_X)
    s(Function.ADD, d=_SUMS, imm=at.sums)
    program.label(label)
    program.vector(
        Op.MATVEC,
        a_reg=_W,
        b_reg=_X_ROW,
        d_reg=_SUMS,
        count=at.n,
        inner=at.k // 8,
        stride=at.k,
        a_type=Type.INT16 if at.wide else Type.INT8,
        accumulate=accumulate,
        comment="a row of X by the block of W",
    )
    s(Function.ADD, d=_X_ROW, a=_X_ROW, imm=at.x_row)
    s(Function.ADD, d=_SUMS, a=_SUMS, imm=4 * at.n)
    s(Function.LESS_THAN, d=_T, a=_SUMS, imm=at.sums + 4 * at.m * at.n)
    program.branch(_T, label)


def _receive(program: Assembler, at: _Layout, x_color: int, w_color: int) -> None:
    """Append: receive the next blocks, when all that is under way has ended."""
    fences = {"fence_pipe": 1, "fence_receive": 1, "fence_transmit": 1}
    receive_words(program, x_color, at.x_bytes // 4, d_reg=_X_NEXT, **fences)
    receive_words(program, w_color, at.w_bytes // 4, d_reg=_W_NEXT)


def _swap(program: Assembler) -> None:
    s = program.scalar
    for now, then in ((_X, _X_NEXT), (_W, _W_NEXT)):
        s(Function.ADD, d=_T, a=now)
        s(Function.ADD, d=now, a=then)
        s(Function.ADD, d=then, a=_T)


def _start(program: Assembler, at: _Layout) -> None:
    for register, value in ((_X, at.x[0]), (_X_NEXT, at.x[1]), (_W, at.w[0]), (_W_NEXT, at.w[1])):
        program.scalar(Function.ADD, d=register, imm=value)


def _shift_program(at: _Layout, size: int) -> Assembler:
    program = Assembler()
    s = program.scalar

    def move() -> None:
        _receive(program, at, ShiftColor.X_ARRIVES, ShiftColor.W_ARRIVES)
        for register, color, count in (
            (_X, ShiftColor.X_LEAVES, at.x_bytes // 4),
            (_W, ShiftColor.W_LEAVES, at.w_bytes // 4),
        ):
            program.vector(Op.TRANSMIT, a_reg=register, color=color, count=count)

    _start(program, at)
    if size > 1:
        move()
    _multiply(program, at, "first", accumulate=False)
    if size > 1:
        _swap(program)
    if size > 2:
        s(Function.ADD, d=_LEFT, imm=size - 2)
        program.label("step")
        move()
        _multiply(program, at, "row", accumulate=True)
        _swap(program)
        s(Function.ADD, d=_LEFT, a=_LEFT, imm=-1)
        program.branch(_LEFT, "step")
    if size > 1:
        s(Function.ADD, fence_pipe=True, fence_receive=True, comment="the last blocks are there")
        _multiply(program, at, "last", accumulate=True)
    s(Function.END)
    read_task(program, ShiftColor.READ)
    return program


def _broadcast_program(at: _Layout, rows: int, columns: int) -> Assembler:
    program = Assembler()
    s = program.scalar
    panels = lcm(rows, columns)
    first = BroadcastColor.FIRST

    def spread(step: int) -> None:
        """Send the blocks of a step, and receive them; their owners, too."""
        column, row = step * columns // panels, step * rows // panels
        x_color, w_color = first + column, first + columns + row
        _receive(program, at, x_color, w_color)
        for register, owner, base, held, size, color in (
            (_COLUMN, column, at.own_x, panels // columns, at.x_bytes, x_color),
            (_ROW, row, at.own_w, panels // rows, at.w_bytes, w_color),
        ):
            label = f"{'x' if register == _COLUMN else 'w'}_{step}"
            s(Function.SUBTRACT, d=_T, a=register, imm=-owner)
            program.branch(_T, label, comment="not the tile's turn to send")
            program.vector(
                Op.TRANSMIT, a_base=base + step % held * size, count=size // 4, color=color
            )
            program.label(label)

    _start(program, at)
    spread(0)
    for step in range(panels):
        _swap(program)
        if step + 1 < panels:
            spread(step + 1)
        else:
            s(
                Function.ADD,
                fence_pipe=True,
                fence_receive=True,
                comment="the last blocks are there",
            )
        _multiply(program, at, f"row_{step}", accumulate=step > 0)
    s(Function.END)
    read_task(program, BroadcastColor.READ)
    return program
