# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a matrix product for the prefill panel: operands from HBM, result to HBM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS, MachineConfig
from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import Modes, Queue, Start, StoreOp, Target
from diptych_sim.compiler.array.commands import CommandList, PrefillProgram, pack_fields
from diptych_sim.compiler.array.hazards import Hazards, Span
from diptych_sim.compiler.array.hbm_layout import HbmImage, round_up
from diptych_sim.compiler.array_gemm.plan import Chunk, Tiling, plans, streamed, tilings

__all__ = [
    "MAX_HBM_BYTES",
    "GemmCandidate",
    "GemmError",
    "GemmProgram",
    "Operand",
    "gemm_candidates",
]

Operand = NDArray[np.int8] | NDArray[np.int16]
"""A matrix of bytes, or of numbers of 12 bits."""
MAX_HBM_BYTES = 2**24
_MODES = Modes()
_MOST_ROWS = 2**15
_LOADS_AHEAD = 6
"""Loads that stand before the product that needs the first of them; the queue has 8 places."""


class GemmError(ValueError):
    """The panel cannot compute this product."""


@dataclass(frozen=True)
class GemmProgram:
    """A product as a program, and where its result lies: rows of int32, ``pitch`` bytes apart."""

    program: PrefillProgram
    result: int
    pitch: int
    operand_bytes: int
    """Bytes of both operands and of the bias, without padding: what must be read."""


@dataclass(frozen=True)
class GemmCandidate:
    """One way to cut a product into loads and products.

    Attributes
    ----------
    commands : CommandList
        Its commands.
    image : HbmImage
        The operands, as it wants them.
    rows : int
        Rows of the result.
    pitch : int
        Bytes from one of them to the next.
    operand_bytes : int
        As of :class:`GemmProgram`.
    """

    commands: CommandList
    image: HbmImage
    rows: int
    pitch: int
    operand_bytes: int

    def without_image(self) -> PrefillProgram:
        """Return the commands as a program for the cost model."""
        return PrefillProgram(b"", 0, self.commands, self.operand_bytes)

    def program(self) -> GemmProgram:
        """Return the program with its HBM image; it can be made once."""
        image = self.image
        result = _result_address(image)
        image.data += bytes(result + self.rows * self.pitch - len(image.data))
        image.add("program", np.array(self.commands.words(), dtype="<u4"))
        start = image.start_of("program")
        program = PrefillProgram(bytes(image.data), start, self.commands, self.operand_bytes)
        return GemmProgram(program, result, self.pitch, self.operand_bytes)


def _result_address(operands: HbmImage) -> int:
    return round_up(len(operands.data), 4096)


def _layout(
    x: Operand, w: NDArray[np.int8], bias: NDArray[np.int32] | None, tiles: Tiling
) -> HbmImage:
    """Lay the operands out in panels, each as wide as the array and without padding.

    Activations lie by block of rows and part of K in panels of R columns, weights by part of K in
    panels of C columns; the last panel may be narrower. So what a load brings is dense.
    """
    image = HbmImage()

    def panels(name: str, matrix: Operand, width: int) -> None:
        beat = BEAT_BYTES // matrix.itemsize
        pieces = []
        for at in range(0, matrix.shape[1], width):
            piece = matrix[:, at : at + width]
            if tiles.line > beat and piece.shape[1] < width:
                # Loads fill lines with zeros up to a beat only.
                piece = np.pad(piece, ((0, 0), (0, width - piece.shape[1])))
            pieces.append(piece.ravel())
        image.add(name, np.concatenate(pieces))

    for d, (start, depth) in enumerate(tiles.depths):
        for r, (first, count) in enumerate(tiles.row_blocks):
            panels(f"x{r}.{d}", x[first : first + count, start : start + depth], tiles.rows)
        panels(f"w{d}", w[start : start + depth], tiles.columns)
    if bias is not None:
        padded = np.zeros(round_up(len(bias), tiles.columns), dtype="<i4")
        padded[: len(bias)] = bias
        image.add("bias", padded)
    return image


def _sums(at: int, tiles: int, rows: int, pitch: int) -> list[Span]:
    """Return the entries of rows of column tiles, which are ``pitch`` entries apart."""
    if rows == pitch:
        return [Span("sums", at, at + tiles * pitch)]
    return [Span("sums", at + n * pitch, at + n * pitch + rows) for n in range(tiles)]


class _Emitter:
    """Writes the commands of a product."""

    def __init__(self, tiles: Tiling, image: HbmImage, result: int, pitch: int) -> None:
        self.tiles, self.image = tiles, image
        self.result, self.pitch = result, pitch
        self.list = CommandList()
        self._hazards = Hazards()

    def add(self, queue: Queue, op: object, reads: list[Span], writes: list[Span], **f: int) -> int:
        after = self._hazards.before(reads, writes)
        number = self.list.add(queue, op, after=after, **f)  # pyright: ignore[reportArgumentType]
        self._hazards.add(number, reads, writes)
        return number

    def _dense(self, hbm: int, at: int, size: int, rows: int, pitch: int, each: int = 1) -> None:
        """Load ``rows`` pieces of ``size`` elements of ``each`` bytes that follow each other in HBM."""
        if rows > _MOST_ROWS:
            self._dense(hbm, at, size, _MOST_ROWS, pitch, each)
            hbm, at = hbm + _MOST_ROWS * size * each, at + _MOST_ROWS * pitch
            rows -= _MOST_ROWS
        written = Span("scratchpad", at, at + (rows - 1) * pitch + round_up(size, self.tiles.line))
        self.add(
            Queue.LOAD,
            Target.DENSE if each == 1 else Target.DENSE_WIDE,
            [],
            [written],
            hbm=hbm,
            bytes=size * each,
            rows=rows,
            target=at % 2**32,
            target_pitch=pitch if rows > 1 else 0,
            total=rows * size * each if rows > 1 else 0,
        )

    def load_x(self, r: int, d: int, first: int, end: int, base: int) -> None:
        """Load panels ``first`` to ``end - 1`` of a block of activations."""
        t = self.tiles
        count, depth = t.row_blocks[r][1], t.depths[d][1]
        each = t.activation_bytes
        hbm = self.image.at[f"x{r}.{d}"] + first * t.rows * count * each
        at = base + first * t.x_k(r)
        narrow = depth % t.rows if t.line * each <= BEAT_BYTES else 0
        full = min(end, depth // t.rows if narrow else end) - first
        if full > 0:
            size = t.rows * count
            if size == t.x_k(r):
                self._dense(hbm, at, size * full, 1, 0, each)
            else:
                self._dense(hbm, at, size, full, t.x_k(r), each)
        if narrow and end * t.rows > depth:
            full = max(full, 0)
            at, hbm = at + full * t.x_k(r), hbm + full * t.rows * count * each
            self._dense(hbm, at, narrow, count, t.rows, each)

    def load_w(self, d: int, columns: tuple[int, int], k: tuple[int, int], base: int) -> None:
        """Load row tiles ``k`` of column panels ``columns`` of a part of the weights."""
        t = self.tiles
        depth = t.depths[d][1]
        first, last = k[0] * t.rows, min(k[1] * t.rows, depth)
        narrow = t.n % t.columns if t.line <= BEAT_BYTES else 0
        full = min(columns[1], t.n // t.columns if narrow else columns[1]) - columns[0]
        hbm = self.image.at[f"w{d}"] + columns[0] * depth * t.columns
        at = base + columns[0] * t.w_n(d)
        if full > 0:
            size = (last - first) * t.columns
            if full > 1 and size == t.w_n(d):
                self._dense(hbm, at, size * full, 1, 0)
            else:
                skip = first * t.columns
                self._dense(hbm + skip, at + skip, size, full, t.w_n(d) if full > 1 else 0)
        if narrow and columns[1] * t.columns > t.n:
            full = max(full, 0)
            hbm += full * depth * t.columns + first * narrow
            at += full * t.w_n(d) + first * t.columns
            self._dense(hbm, at, narrow, last - first, t.columns)

    def multiply(self, chunk: Chunk, place: tuple[int, int]) -> None:
        """Multiply the tiles of a chunk; ``place``: entry of the group's first sums, and pitch."""
        t = self.tiles
        x_base, w_base = chunk.x_base, chunk.w_base
        r, d = chunk.row_block, chunk.depth
        count = t.row_blocks[r][1]
        first_row, end_row = chunk.rows or (0, count)
        (j0, j1), (k0, k1) = chunk.columns, chunk.k
        w_n, x_k = t.w_n(d), t.x_k(r)
        at = place[0] + (j0 - chunk.group[0]) * place[1]
        entries = _sums(at, j1 - j0, end_row - first_row, place[1])
        w_read = (w_base + j0 * w_n, w_base + j1 * w_n)
        if j1 - j0 == 1:
            w_read = (w_read[0] + k0 * t.rows * t.columns, w_read[0] + k1 * t.rows * t.columns)
        reads = [
            Span("scratchpad", x_base + k0 * x_k, x_base + k1 * x_k),
            Span("scratchpad", *w_read),
        ]
        start = Start.OVERWRITE if k0 == 0 and d == 0 else Start.ADD
        modes = {"end_row": min(t.rows, 255), "start": start, "packed": t.packed}
        self.add(
            Queue.MATRIX,
            0,
            reads,
            entries,
            x=x_base + k0 * x_k + first_row * t.rows,
            x_row=t.rows,
            x_k=x_k,
            w=w_read[0] % 2**32,
            w_row=t.columns,
            w_k=t.rows * t.columns,
            w_n=w_n,
            sums=at,
            sums_n=place[1],
            tiles=(k1 - k0) | (j1 - j0) << 16,
            rows=end_row - first_row,
            modes=pack_fields(_MODES, modes, "Modes"),
        )

    def load_biases(self, first: int, end: int, entry: int) -> None:
        """Load the biases of column tiles ``first`` to ``end - 1``."""
        size = 4 * self.tiles.columns
        self.add(
            Queue.LOAD,
            Target.BIASES,
            [],
            [Span("biases", entry, entry + end - first)],
            hbm=self.image.at["bias"] + first * size,
            bytes=(end - first) * size,
            rows=1,
            target=entry,
        )

    def store(self, chunk: Chunk, place: tuple[int, int], bias: int | None) -> None:
        """Store rows of a group of column tiles; with biases from entry ``bias`` on."""
        t = self.tiles
        group = chunk.group
        first, count = t.row_blocks[chunk.row_block]
        rows = chunk.rows or (0, count)
        reads = _sums(place[0], group[1] - group[0], rows[1] - rows[0], place[1])
        begin, end = group[0] * t.columns, min(t.n, group[1] * t.columns)
        if bias is not None:
            reads.append(Span("biases", bias, bias + group[1] - group[0]))
        self.add(
            Queue.STORE,
            StoreOp.SUMS if bias is None else StoreOp.BIASED_SUMS,
            reads,
            [],
            hbm=self.result + (first + rows[0]) * self.pitch + 4 * begin,
            bytes=4 * (end - begin),
            rows=rows[1] - rows[0],
            pitch=self.pitch,
            source=place[0],
            source2=place[1],
            first=bias or 0,
        )


def _emit(
    tiles: Tiling, chunks: Sequence[Chunk], image: HbmImage, result: int, pitch: int, biased: bool
) -> CommandList:
    """Write the program: loads ahead of their products, stores behind them."""
    out = _Emitter(tiles, image, result, pitch)
    half = tiles.accumulators // 2
    bias_half = tiles.biases // 2
    all_biases = biased and tiles.column_tiles <= tiles.biases
    loads = [(index, load) for index, chunk in enumerate(chunks) for load in chunk.loads]
    pending = 0
    turn = 0
    place = (0, 0)
    ends = [half, 2 * half]
    group: tuple[object, ...] | None = None
    for index, chunk in enumerate(chunks):
        while pending < len(loads) and (
            loads[pending][0] <= index
            or (tiles.resident and loads[pending][0] <= index + _LOADS_AHEAD)
        ):
            which, load = loads[pending]
            ahead = pending - sum(1 for at, _ in loads if at < index)
            if which > index and ahead >= _LOADS_AHEAD:
                break
            if load.activations:
                out.load_x(load.row_block, load.depth, *load.k, load.base)
            else:
                out.load_w(load.depth, load.columns, load.k, load.base)
            pending += 1
        if all_biases and index == 0:
            out.load_biases(0, tiles.column_tiles, 0)
        now = (chunk.row_block, chunk.group, chunk.tail)
        if now != group:
            group, turn = now, turn ^ 1
            place = (turn * half, tiles.row_blocks[chunk.row_block][1])
            if chunk.tail and chunk.rows:
                # At the end of the half, where sums that are still stored leave them alone.
                rows = chunk.rows[1] - chunk.rows[0]
                ends[turn] -= rows * (chunk.group[1] - chunk.group[0])
                place = (ends[turn], rows)
            if biased and not all_biases:
                out.load_biases(*chunk.group, turn * bias_half)
        out.multiply(chunk, place)
        if chunk.stores:
            bias = (chunk.group[0] if all_biases else turn * bias_half) if biased else None
            out.store(chunk, place, bias)
    return out.list


def gemm_candidates(
    x: Operand,
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    machine: MachineConfig = DEFAULTS,
) -> Iterator[GemmCandidate]:
    """Yield ways to compute ``x @ w + bias`` on a prefill panel.

    Parameters
    ----------
    x : array
        int8 [M, K], or int16 of 12 bits.
    w : array
        int8 [K, N].
    bias : array, optional
        int32 [N].
    machine : MachineConfig
        Its array; its weight rows and its HBM's bandwidth are for the plans alone: any program
        runs with any.

    Raises
    ------
    GemmError
        If operands and result do not fit into :data:`MAX_HBM_BYTES`.
    """
    (m, k), n = x.shape, w.shape[1]
    pitch = round_up(4 * n, BEAT_BYTES)
    needed = x.nbytes + w.nbytes + m * pitch + 2**16
    if needed > MAX_HBM_BYTES:
        raise GemmError(
            f"Product must fit into {MAX_HBM_BYTES} bytes of HBM, and {m}x{k}x{n} needs {needed}"
        )
    operand_bytes = x.nbytes + w.nbytes + (0 if bias is None else 4 * n)
    for tiles in tilings((m, k, n), machine, activation_bytes=x.itemsize):
        image = _layout(x, w, bias, tiles)
        result = _result_address(image)
        rate = machine.hbm_bytes_per_cycle
        for chunks in plans(tiles, rate) if tiles.resident else [streamed(tiles)]:
            commands = _emit(tiles, chunks, image, result, pitch, bias is not None)
            yield GemmCandidate(commands, image, m, pitch, operand_bytes)
