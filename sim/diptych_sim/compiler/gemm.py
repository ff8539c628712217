# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a matrix product for the prefill panel: operands from HBM, result to HBM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.systolic.isa import Modes, Queue, Start, StoreOp, Target
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.commands import CommandList, PrefillProgram, pack_fields
from diptych_sim.compiler.hazards import Hazards, Span
from diptych_sim.compiler.hbm_layout import HbmImage, up

__all__ = ["MAX_HBM_BYTES", "GemmError", "GemmProgram", "compile_gemm"]

MAX_HBM_BYTES = 2**24
_MOST_ROWS = 128
_MOST_DEPTH = 256
_DIGITS = 4


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


def _split(total: int, most: int) -> list[tuple[int, int]]:
    return [(start, min(most, total - start)) for start in range(0, total, most)]


class _Gemm:
    def __init__(
        self,
        x: NDArray[np.int8],
        w: NDArray[np.int8],
        bias: NDArray[np.int32] | None,
        rows: int,
        columns: int,
    ) -> None:
        self.sizes = panel_sizes(rows, columns)
        self.rows, self.columns = rows, columns
        self.line = self.sizes.line
        self.x, self.w, self.bias = x, w, bias
        (self.m, self.k), self.n = x.shape, w.shape[1]
        self.image = HbmImage()
        self.list = CommandList()
        self._hazards = Hazards()
        half = self.sizes.scratchpad // 2
        # Blocks: rows, depth, and groups of column tiles whose result begins at a beat.
        self.row_blocks = _split(self.m, _MOST_ROWS)
        self.depths = _split(self.k, _MOST_DEPTH)
        most = min(self.m, _MOST_ROWS)
        step = max(1, 16 // columns)
        tiles = -(-self.n // columns)
        group = max(step, min(self.sizes.accumulators // 2 // most, 2 * step))
        self.groups = _split(tiles, group)
        self.x_slot = most * up(min(self.k, _MOST_DEPTH), self.line)
        self.w_slot = up(min(self.k, _MOST_DEPTH), self.line) * up(group * columns, self.line)
        # What is resident is read once; else slots are used in turn.
        self.x_slots = min(half // self.x_slot, len(self.depths))
        self.w_slots = min(half // self.w_slot, len(self.depths) * len(self.groups))
        assert self.x_slots >= min(2, len(self.depths))
        self._holds: dict[str, tuple[int, int]] = {}
        self._turn = {"x": 0, "w": 0}

    def _width(self, n: int) -> int:
        return up(n * self.columns, self.line)

    def _images(self) -> None:
        """Lay the operands out in blocks, each as the scratchpad will hold it."""
        for r, (first, count) in enumerate(self.row_blocks):
            for d, (start, depth) in enumerate(self.depths):
                block = np.zeros((count, up(depth, self.line)), dtype=np.int8)
                block[:, :depth] = self.x[first : first + count, start : start + depth]
                self.image.add(f"x{r}.{d}", block)
        for g, (tile, n) in enumerate(self.groups):
            for d, (start, depth) in enumerate(self.depths):
                block = np.zeros((up(depth, self.line), self._width(n)), dtype=np.int8)
                columns = self.w[start : start + depth, tile * self.columns :][
                    :, : n * self.columns
                ]
                block[:depth, : columns.shape[1]] = columns
                self.image.add(f"w{g}.{d}", block)
        if self.bias is not None:
            # Signed bytes, highest first, for products with a one.
            left = self.bias.astype(np.int64)
            digits = []
            for _ in range(_DIGITS):
                low = (left + 128) % 256 - 128
                digits.append(low)
                left = (left - low) >> 8
            digits.reverse()
            width = up(self.n, self.line)
            block = np.zeros((_DIGITS, width), dtype=np.int8)
            block[:, : self.n] = digits
            self.image.add("bias", block)
            one = np.zeros(64, dtype=np.int8)
            one[0] = 1
            self.image.add("one", one)

    def _add(
        self, queue: Queue, op: object, reads: list[Span], writes: list[Span], **f: int
    ) -> None:
        after = self._hazards.before(reads, writes)
        number = self.list.add(queue, op, after=after, **f)  # pyright: ignore[reportArgumentType]
        self._hazards.add(number, reads, writes)

    def _fetch(self, kind: str, part: str, slots: int, size: int, base: int) -> tuple[int, Span]:
        """Return where a block is in the scratchpad, and load it if it is not there."""
        for place, (_, held) in enumerate(
            self._holds.get(f"{kind}{slot}", (0, -1)) for slot in range(slots)
        ):
            if held == self.image.at[part]:
                return base + place * size, Span(f"{kind}{place}", 0, 1)
        slot = self._turn[kind]
        self._turn[kind] = (slot + 1) % slots
        self._holds[f"{kind}{slot}"] = (slot, self.image.at[part])
        span = Span(f"{kind}{slot}", 0, 1)
        self._add(
            Queue.LOAD,
            Target.SCRATCHPAD,
            [],
            [span],
            hbm=self.image.at[part],
            bytes=self.image.size[part],
            rows=1,
            target=base + slot * size,
        )
        return base + slot * size, span

    def run(self) -> GemmProgram:
        self._images()
        sizes = self.sizes
        half = sizes.scratchpad // 2
        operand_bytes = self.x.size + self.w.size + (0 if self.bias is None else 4 * self.n)
        pitch = up(4 * self.n, 64)
        result = up(len(self.image.data), 4096)
        needed = result + self.m * pitch + 2**16
        if needed > MAX_HBM_BYTES:
            raise GemmError(
                f"Product must fit into {MAX_HBM_BYTES} bytes of HBM, and {self.m}x{self.k}x{self.n} "
                f"needs {needed}"
            )
        bias_at = sizes.scratchpad - up(_DIGITS * up(self.n, self.line), 64) - 64
        if self.bias is not None:
            for part, at in (("bias", bias_at), ("one", sizes.scratchpad - 64)):
                self._add(
                    Queue.LOAD,
                    Target.SCRATCHPAD,
                    [],
                    [Span(part, 0, 1)],
                    hbm=self.image.at[part],
                    bytes=self.image.size[part],
                    rows=1,
                    target=at,
                )
            self.w_slots = min(self.w_slots, (bias_at - half) // self.w_slot)
        turn = 0
        for r, (first, count) in enumerate(self.row_blocks):
            for g, (tile, n) in enumerate(self.groups):
                turn ^= 1
                sums = turn * (sizes.accumulators // 2)
                held = Span("sums", sums, sums + n * count)
                started = self.bias is not None
                if started:
                    self._add_bias(tile, n, count, sums, bias_at, held)
                for d, (_, depth) in enumerate(self.depths):
                    x, x_span = self._fetch("x", f"x{r}.{d}", self.x_slots, self.x_slot, 0)
                    w, w_span = self._fetch("w", f"w{g}.{d}", self.w_slots, self.w_slot, half)
                    width = self._width(n)
                    modes = {
                        "end_row": self.rows,
                        "start": Start.ADD if started else Start.OVERWRITE,
                    }
                    started = True
                    self._add(
                        Queue.MATRIX,
                        0,
                        [x_span, w_span],
                        [held],
                        x=x,
                        x_row=up(depth, self.line),
                        x_k=self.rows,
                        w=w,
                        w_row=width,
                        w_k=self.rows * width,
                        w_n=self.columns,
                        sums=sums,
                        sums_n=count,
                        tiles=-(-depth // self.rows) | n << 16,
                        rows=count,
                        modes=pack_fields(Modes(), modes, "Modes"),
                    )
                last = min(self.n, (tile + n) * self.columns)
                self._add(
                    Queue.STORE,
                    StoreOp.SUMS,
                    [held],
                    [Span("result", turn, turn + 1)],
                    hbm=result + first * pitch + 4 * tile * self.columns,
                    bytes=4 * (last - tile * self.columns),
                    rows=count,
                    pitch=pitch,
                    source=sums,
                    source2=count,
                )
        self.image.data += bytes(result + self.m * pitch - len(self.image.data))
        self.image.add("program", np.array(self.list.words(), dtype="<u4"))
        program = PrefillProgram(
            bytes(self.image.data), self.image.at["program"], self.list, operand_bytes
        )
        return GemmProgram(program, result, pitch, operand_bytes)

    def _add_bias(self, tile: int, n: int, count: int, sums: int, at: int, held: Span) -> None:
        """Start sums at the bias: four products with a one, each 256 times what was there."""
        width = up(self.n, self.line)
        for digit in range(_DIGITS):
            start = Start.ADD_TO_HIGH if digit else Start.OVERWRITE
            modes = {"end_row": 1, "start": start}
            self._add(
                Queue.MATRIX,
                0,
                [Span("bias", 0, 1), Span("one", 0, 1)],
                [held],
                x=self.sizes.scratchpad - 64,
                w=at + digit * width + tile * self.columns,
                w_n=self.columns,
                sums=sums,
                sums_n=count,
                tiles=1 | n << 16,
                rows=count,
                modes=pack_fields(Modes(), modes, "Modes"),
            )


def compile_gemm(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    *,
    rows: int,
    columns: int,
) -> GemmProgram:
    """Compile ``x @ w + bias`` for an array of ``rows`` x ``columns``.

    Parameters
    ----------
    x : array
        int8 [M, K].
    w : array
        int8 [K, N].
    bias : array, optional
        int32 [N].

    Raises
    ------
    GemmError
        If operands and result do not fit into :data:`MAX_HBM_BYTES`.
    """
    return _Gemm(x, w, bias, rows, columns).run()
