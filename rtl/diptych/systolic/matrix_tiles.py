# SPDX-License-Identifier: BSD-2-Clause
"""Order of work of the matrix engine: the tiles of commands, their weights, and their rows."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .isa import MATRIX, Causal, Modes, Start
from .matrix_fetch import Request

__all__ = ["RowStreamer", "RowTag", "Tile", "TileSequencer", "WeightTag"]

PLANE_STARTS = (Start.OVERWRITE.value, Start.ADD_TO_HIGH.value, Start.ADD.value, 0)
"""What the first row tile of each product of planes does with the old sums."""


class WeightTag(data.StructLayout):
    """What comes with weights: number of the first line, direction, group, whether it is the last."""

    def __init__(self, line: int) -> None:
        super().__init__({"index": ceil_log2(line), "west": 1, "group": 1, "last": 1})


class Tile(data.StructLayout):
    """Payload: the rows that pass one tile of weights.

    ``x`` and ``pitch`` are byte addresses, ``sums`` an entry; ``macs`` is what a row counts for;
    ``last`` marks the last tile of a command.
    """

    def __init__(self, *, size: int, accumulators: int) -> None:
        super().__init__(
            {
                "x": ceil_log2(size),
                "pitch": ceil_log2(size),
                "rows": 16,
                "sums": ceil_log2(accumulators),
                "start": 2,
                "unsigned": 1,
                "macs": 15,
                "last": 1,
            }
        )


class RowTag(data.StructLayout):
    """What comes with a row: ``first`` and ``end`` of its tile, ``last`` of its command."""

    def __init__(self, accumulators: int) -> None:
        super().__init__(
            {
                "sums": ceil_log2(accumulators),
                "start": 2,
                "unsigned": 1,
                "macs": 15,
                "first": 1,
                "end": 1,
                "last": 1,
            }
        )


class TileSequencer(wiring.Component):
    """Takes commands, asks for the weights of their tiles, and tells the tiles.

    One line of weights is asked for per cycle, or a group of lines where they lie packed, without
    a gap between tiles or commands. A tile is told with its fourth request.

    Parameters
    ----------
    rows, columns : :class:`int`
        Extent of the array.
    size : :class:`int`
        Bytes of the scratchpad; a power of two.
    accumulators : :class:`int`
        Entries of the accumulators; a power of two.
    weight_rows : :class:`int`
        Lines of a group; a power of two, at most a quarter of ``rows``.

    Members
    -------
    i : :py:`In(stream.Signature(MATRIX))`
        Commands; rows, K and N at least 1.
    weights : :py:`Out(stream.Signature(Request))`
        Lines of weights.
    tiles : :py:`Out(stream.Signature(Tile))`
        Tiles.
    """

    i: stream.Interface
    weights: stream.Interface
    tiles: stream.Interface

    def __init__(
        self, *, rows: int, columns: int, size: int, accumulators: int, weight_rows: int = 1
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.weight_rows = weight_rows
        self.size = size
        self.accumulators = accumulators
        self.line = line = max(rows, columns)
        super().__init__(
            {
                "i": In(stream.Signature(MATRIX)),
                "weights": Out(
                    stream.Signature(
                        Request(size=size, piece=weight_rows * line, tag=WeightTag(line))
                    )
                ),
                "tiles": Out(stream.Signature(Tile(size=size, accumulators=accumulators))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, columns, line = self.rows, self.columns, self.line
        bits = ceil_log2(self.size)

        busy = Signal()
        command = Signal(MATRIX, reset_less=True)
        modes = data.View(Modes(), command.modes)
        w_column = Signal(bits, reset_less=True)  # of tile (0, j)
        w_tile = Signal(bits, reset_less=True)
        w_line = Signal(bits, reset_less=True)
        x_tile = Signal(bits, reset_less=True)
        sums = Signal(ceil_log2(self.accumulators), reset_less=True)
        k = Signal(16, reset_less=True)
        j = Signal(16, reset_less=True)
        plane = Signal(2, reset_less=True)  # which product of planes
        position = Signal(17, reset_less=True)  # of the first row that is not skipped
        index = Signal(range(line))

        # These follow ``k``, ``j`` and ``position`` within 3 cycles: until the fourth request.
        by_n = Signal()
        by_k = Signal()
        skip = Signal(16, reset_less=True)
        skipped = Signal(bits, reset_less=True)
        remaining = Signal(16, reset_less=True)
        step = Signal(17)
        nothing_follows = Signal(reset_less=True)
        last_k = Signal(reset_less=True)
        last_j = Signal(reset_less=True)
        last_plane = Signal()
        pairs = Signal()
        paired = Signal()  # and this is the product of both planes
        lanes = Signal(8)  # of a plane
        first_row, end_row = Signal(8), Signal(8)
        last_column = Signal(reset_less=True)
        valid_columns = Signal(range(columns + 1), reset_less=True)
        valid_rows = Signal(range(rows + 1), reset_less=True)
        macs = Signal(15, reset_less=True)
        end = Signal(17, reset_less=True)
        m.d.comb += [
            by_n.eq(modes.causal == Causal.BY_N),
            by_k.eq(modes.causal == Causal.BY_K),
            step.eq(Mux(by_n, columns, rows)),
        ]
        m.d.sync += [
            skip.eq(Mux(position > command.first[:16], position - command.first[:16], 0)),
            skipped.eq(skip * command.x_row[:bits]),
            remaining.eq(command.rows[:16] - skip),
            end.eq(command.first[:16] + command.rows[:16]),
            nothing_follows.eq(position + step >= end),
            last_k.eq((k + 1 == command.tiles[:16]) | (by_k & nothing_follows)),
            last_column.eq(j + 1 == command.tiles[16:]),
            last_j.eq((j + 1 == command.tiles[16:]) | (by_n & nothing_follows)),
            valid_rows.eq(Mux(end_row > rows, rows, end_row) - first_row),
            macs.eq(valid_rows * valid_columns),
        ]

        # --- which weights count ---
        # Needed from the first line on, so from nothing that lags behind.
        cut = Signal()
        shown_columns = Signal(range(columns + 1))
        row_mask = Signal(rows)
        column_mask = Signal(columns)
        line_counts = Signal(self.weight_rows)
        packed = Signal()
        step_lines = Signal(range(self.weight_rows + 1))
        m.d.comb += [
            cut.eq((j + 1 == command.tiles[16:]) & (modes.end_column != 0)),
            shown_columns.eq(Mux(cut, modes.end_column, columns)),
            paired.eq(pairs & (plane == 1)),
            lanes.eq(modes.end_row - modes.first_row),
            first_row.eq(Mux(paired, modes.first_row & ~lanes, modes.first_row)),
            end_row.eq(Mux(paired, first_row + (lanes << 1), modes.end_row)),
            row_mask.eq(
                (Const(2**rows - 1, rows) << first_row)
                & ~(Const(2**rows - 1, rows) << end_row)[:rows]
            ),
            column_mask.eq(~(Const(2**columns - 1, columns) << shown_columns)[:columns]),
        ]
        m.d.sync += valid_columns.eq(shown_columns)

        final, ends = Signal(), Signal()
        tells = Signal()
        takes = Signal()
        ask, tile = self.weights, self.tiles
        with m.If(modes.transposed):
            m.d.comb += [
                final.eq(index == columns - 1),
                line_counts.eq(index < shown_columns),
                ask.p.mask.eq(Mux(line_counts[0], row_mask, 0)),
            ]
        with m.Else():
            m.d.comb += [
                final.eq(index == Mux(packed, rows - self.weight_rows, rows - 1)),
                line_counts.eq(
                    Cat(
                        (index + n >= first_row) & (index + n < end_row)
                        for n in range(self.weight_rows)
                    )
                ),
                ask.p.mask.eq(
                    Cat(
                        Cat(
                            Mux(line_counts[n], column_mask, 0),
                            Const(0, line - columns),
                        )
                        for n in range(self.weight_rows)
                    )
                ),
            ]
        m.d.comb += [
            packed.eq(modes.packed & ~modes.transposed if self.weight_rows > 1 else 0),
            step_lines.eq(Mux(packed, self.weight_rows, 1)),
            tells.eq(index == Mux(packed, 3 * self.weight_rows, 3)),
            # The fourth request waits for room for the tile, and the tile for the line.
            ask.valid.eq(busy & (~tells | tile.ready)),
            ask.p.address.eq(w_line),
            ask.p.tag.index.eq(index),
            ask.p.tag.west.eq(modes.transposed),
            ask.p.tag.group.eq(packed),
            ask.p.tag.last.eq(final),
            takes.eq(ask.valid & ask.ready),
            tile.valid.eq(busy & tells & ask.ready),
            tile.p.x.eq(x_tile + skipped),
            tile.p.pitch.eq(command.x_row),
            tile.p.rows.eq(remaining),
            tile.p.sums.eq(sums + skip),
            tile.p.start.eq(
                Mux(k == 0, Mux(modes.planes, Array(PLANE_STARTS)[plane], modes.start), 1)
            ),
            tile.p.unsigned.eq(modes.unsigned),
            tile.p.macs.eq(macs),
            tile.p.last.eq(last_k & last_plane & last_j),
            ends.eq(takes & final & last_k & last_plane & last_j),
            self.i.ready.eq(~busy | ends),
        ]

        # Addresses of row tile 0 of this column and of its next product of planes.
        x_other, w_other = Signal(bits), Signal(bits)
        line_bits = ceil_log2(line)
        m.d.comb += [
            pairs.eq(modes.planes & (modes.start == Start.ADD)),
            last_plane.eq(~modes.planes | (plane == Mux(pairs, 1, 2))),
            x_other.eq(command.x + Mux(plane == 1, command.rows[16:] << line_bits, 0)),
            w_other.eq(w_column + Mux(plane == 0, command.first[16:] << line_bits, 0)),
        ]

        def go_to(register: Signal, place: Value) -> list[Any]:
            return [register.eq(place), w_line.eq(place)]

        with m.If(takes):
            w_step = Mux(packed, self.weight_rows * line, command.w_row)
            m.d.sync += [index.eq(index + step_lines), w_line.eq(w_line + w_step)]
            with m.If(final):
                m.d.sync += index.eq(0)
                with m.If(~last_k):
                    m.d.sync += [
                        *go_to(w_tile, w_tile + command.w_k),
                        x_tile.eq(x_tile + command.x_k),
                        k.eq(k + 1),
                    ]
                    with m.If(by_k):
                        m.d.sync += position.eq(position + rows)
                with m.Elif(~last_plane):
                    m.d.sync += [
                        *go_to(w_tile, w_other),
                        x_tile.eq(x_other),
                        k.eq(0),
                        plane.eq(plane + 1),
                        position.eq(Mux(by_n, position, 0)),
                    ]
                with m.Elif(~last_j):
                    m.d.sync += [
                        plane.eq(0),
                        w_column.eq(w_column + command.w_n),
                        *go_to(w_tile, w_column + command.w_n),
                        x_tile.eq(command.x),
                        sums.eq(sums + command.sums_n),
                        k.eq(0),
                        j.eq(j + 1),
                        position.eq(Mux(by_n, position + columns, 0)),
                    ]
        with m.If(self.i.ready):
            m.d.sync += [
                busy.eq(self.i.valid),
                command.eq(self.i.p),
                w_column.eq(self.i.p.w),
                *go_to(w_tile, self.i.p.w),
                x_tile.eq(self.i.p.x),
                sums.eq(self.i.p.sums),
                k.eq(0),
                j.eq(0),
                plane.eq(0),
                position.eq(0),
            ]
        return m


class RowStreamer(wiring.Component):
    """Asks for the rows of tiles: one per cycle, without a gap between tiles that wait.

    Parameters
    ----------
    rows : :class:`int`
        Bytes of a row.
    size : :class:`int`
        Bytes of the scratchpad; a power of two.
    accumulators : :class:`int`
        Entries of the accumulators; a power of two.

    Members
    -------
    i : :py:`In(stream.Signature(Tile))`
        Tiles.
    o : :py:`Out(stream.Signature(Request))`
        Rows.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, rows: int, size: int, accumulators: int) -> None:
        self._tile = Tile(size=size, accumulators=accumulators)
        super().__init__(
            {
                "i": In(stream.Signature(self._tile)),
                "o": Out(
                    stream.Signature(Request(size=size, piece=rows, tag=RowTag(accumulators)))
                ),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        active = Signal()
        first = Signal()
        tile = Signal(self._tile, reset_less=True)
        ends = Signal()
        takes = Signal()
        tag = self.o.p.tag
        m.d.comb += [
            ends.eq(tile.rows == 1),
            self.o.valid.eq(active),
            self.o.p.address.eq(tile.x),
            self.o.p.mask.eq(-1),
            tag.sums.eq(tile.sums),
            tag.start.eq(tile.start),
            tag.unsigned.eq(tile.unsigned),
            tag.macs.eq(tile.macs),
            tag.first.eq(first),
            tag.end.eq(ends),
            tag.last.eq(ends & tile.last),
            takes.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(~active | (takes & ends)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), first.eq(1), tile.eq(self.i.p)]
        with m.Elif(takes):
            m.d.sync += [
                first.eq(0),
                tile.x.eq(tile.x + tile.pitch),
                tile.sums.eq(tile.sums + 1),
                tile.rows.eq(tile.rows - 1),
            ]
        return m
