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
"""Use of the old sums by the first row tile of each product of planes."""


class WeightTag(data.StructLayout):
    """Tag of weights: number of the first line, direction, group, last of its tile."""

    def __init__(self, line: int) -> None:
        super().__init__({"index": ceil_log2(line), "west": 1, "group": 1, "last": 1})


class Tile(data.StructLayout):
    """Payload: the rows that pass one tile of weights.

    ``x`` and ``pitch`` are byte addresses, ``sums`` an entry; ``macs`` is the number of useful
    products of a row; ``last`` marks the last tile of a command.
    """

    def __init__(self, *, size: int, accumulators: int) -> None:
        super().__init__(
            {
                "x": ceil_log2(size),
                "pitch": ceil_log2(size),
                "rows": 16,
                "sums": ceil_log2(accumulators),
                "start": 2,
                "macs": 15,
                "last": 1,
            }
        )


class RowTag(data.StructLayout):
    """Tag of a row: ``first`` and ``end`` of its tile, ``last`` of its command."""

    def __init__(self, accumulators: int) -> None:
        super().__init__(
            {
                "sums": ceil_log2(accumulators),
                "start": 2,
                "macs": 15,
                "first": 1,
                "end": 1,
                "last": 1,
            }
        )


class _Signals:
    """Position of a :class:`TileSequencer` in its command, and what is derived from it."""

    def __init__(self, sequencer: "TileSequencer") -> None:
        self.bits = ceil_log2(sequencer.size)
        self.busy = Signal()
        self.command = Signal(MATRIX, reset_less=True)
        self.modes = data.View(Modes(), self.command.modes)
        self.w_column = Signal(self.bits, reset_less=True)  # of tile (0, j)
        self.w_tile = Signal(self.bits, reset_less=True)
        self.w_line = Signal(self.bits, reset_less=True)
        self.x_tile = Signal(self.bits, reset_less=True)
        self.sums = Signal(ceil_log2(sequencer.accumulators), reset_less=True)
        self.k = Signal(16, reset_less=True)
        self.j = Signal(16, reset_less=True)
        self.plane = Signal(2, reset_less=True)  # which product of planes
        self.position = Signal(17, reset_less=True)  # of the first row that is not skipped
        self.index = Signal(range(sequencer.line))
        # Derived from ``k``, ``j`` and ``position`` within 3 cycles: before the fourth request.
        self.by_n = Signal()
        self.by_k = Signal()
        self.skip = Signal(16, reset_less=True)
        self.skipped = Signal(self.bits, reset_less=True)
        self.remaining = Signal(16, reset_less=True)
        self.last_k = Signal(reset_less=True)
        self.last_j = Signal(reset_less=True)
        self.last_plane = Signal()
        self.pairs = Signal()
        self.paired = Signal()  # and this is the product of both planes
        self.lanes = Signal(8)  # of a plane
        self.first_row, self.end_row = Signal(8), Signal(8)
        self.valid_columns = Signal(range(sequencer.columns + 1), reset_less=True)
        self.macs = Signal(15, reset_less=True)
        # Weights that are not masked.
        self.shown_columns = Signal(range(sequencer.columns + 1))
        self.row_mask = Signal(sequencer.rows)
        self.column_mask = Signal(sequencer.columns)
        self.line_counts = Signal(sequencer.weight_rows)
        self.packed = Signal()
        self.step_lines = Signal(range(sequencer.weight_rows + 1))
        final, ends = Signal(), Signal()
        self.final, self.ends = final, ends
        self.takes = Signal()
        # Addresses of row tile 0 of this column and of its next product of planes.
        x_other, w_other = Signal(self.bits), Signal(self.bits)
        self.x_other, self.w_other = x_other, w_other


class TileSequencer(wiring.Component):
    """Divides commands into tiles: requests their weights, and announces each to the row streamer.

    One line of weights is requested per cycle, or a group of lines where they are packed, without
    a gap between tiles or commands. A tile is announced with its fourth request.

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
        Requests of lines of weights.
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
        s = _Signals(self)
        self._derive(m, s)
        self._mask(m, s)
        self._request(m, s)
        self._find_addresses(m, s)
        self._advance(m, s)
        return m

    def _derive(self, m: Module, s: _Signals) -> None:
        """Derive what follows from the position in the command, registered."""
        step = Signal(17)
        nothing_follows = Signal(reset_less=True)
        valid_rows = Signal(range(self.rows + 1), reset_less=True)
        end = Signal(17, reset_less=True)
        m.d.comb += [
            s.by_n.eq(s.modes.causal == Causal.BY_N),
            s.by_k.eq(s.modes.causal == Causal.BY_K),
            step.eq(Mux(s.by_n, self.columns, self.rows)),
        ]
        m.d.sync += [
            s.skip.eq(Mux(s.position > s.command.first[:16], s.position - s.command.first[:16], 0)),
            s.skipped.eq(s.skip * s.command.x_row[: s.bits]),
            s.remaining.eq(s.command.rows[:16] - s.skip),
            end.eq(s.command.first[:16] + s.command.rows[:16]),
            nothing_follows.eq(s.position + step >= end),
            s.last_k.eq((s.k + 1 == s.command.tiles[:16]) | (s.by_k & nothing_follows)),
            s.last_j.eq((s.j + 1 == s.command.tiles[16:]) | (s.by_n & nothing_follows)),
            valid_rows.eq(Mux(s.end_row > self.rows, self.rows, s.end_row) - s.first_row),
            s.macs.eq(valid_rows * s.valid_columns),
        ]

    def _mask(self, m: Module, s: _Signals) -> None:
        """Mask the weights that lie outside of the matrix."""
        # Needed from the first line on, so not derived from delayed registers.
        cut = Signal()
        m.d.comb += [
            cut.eq((s.j + 1 == s.command.tiles[16:]) & (s.modes.end_column != 0)),
            s.shown_columns.eq(Mux(cut, s.modes.end_column, self.columns)),
            s.paired.eq(s.pairs & (s.plane == 1)),
            s.lanes.eq(s.modes.end_row - s.modes.first_row),
            s.first_row.eq(Mux(s.paired, s.modes.first_row & ~s.lanes, s.modes.first_row)),
            s.end_row.eq(Mux(s.paired, s.first_row + (s.lanes << 1), s.modes.end_row)),
            s.row_mask.eq(
                (Const(2**self.rows - 1, self.rows) << s.first_row)
                & ~(Const(2**self.rows - 1, self.rows) << s.end_row)[: self.rows]
            ),
            s.column_mask.eq(
                ~(Const(2**self.columns - 1, self.columns) << s.shown_columns)[: self.columns]
            ),
        ]
        m.d.sync += s.valid_columns.eq(s.shown_columns)

    def _request(self, m: Module, s: _Signals) -> None:
        """Request lines of weights, and announce the tile with the fourth request."""
        tells = Signal()
        ask, tile = self.weights, self.tiles
        with m.If(s.modes.transposed):
            m.d.comb += [
                s.final.eq(s.index == self.columns - 1),
                s.line_counts.eq(s.index < s.shown_columns),
                ask.p.mask.eq(Mux(s.line_counts[0], s.row_mask, 0)),
            ]
        with m.Else():
            m.d.comb += [
                s.final.eq(s.index == Mux(s.packed, self.rows - self.weight_rows, self.rows - 1)),
                s.line_counts.eq(
                    Cat(
                        (s.index + n >= s.first_row) & (s.index + n < s.end_row)
                        for n in range(self.weight_rows)
                    )
                ),
                ask.p.mask.eq(
                    Cat(
                        Cat(
                            Mux(s.line_counts[n], s.column_mask, 0),
                            Const(0, self.line - self.columns),
                        )
                        for n in range(self.weight_rows)
                    )
                ),
            ]
        m.d.comb += [
            s.packed.eq(s.modes.packed & ~s.modes.transposed if self.weight_rows > 1 else 0),
            s.step_lines.eq(Mux(s.packed, self.weight_rows, 1)),
            tells.eq(s.index == Mux(s.packed, 3 * self.weight_rows, 3)),
            # The fourth request waits for room for the tile, and the tile for the line.
            ask.valid.eq(s.busy & (~tells | tile.ready)),
            ask.p.address.eq(s.w_line),
            ask.p.tag.index.eq(s.index),
            ask.p.tag.west.eq(s.modes.transposed),
            ask.p.tag.group.eq(s.packed),
            ask.p.tag.last.eq(s.final),
            s.takes.eq(ask.valid & ask.ready),
            tile.valid.eq(s.busy & tells & ask.ready),
            tile.p.x.eq(s.x_tile + s.skipped),
            tile.p.pitch.eq(s.command.x_row),
            tile.p.rows.eq(s.remaining),
            tile.p.sums.eq(s.sums + s.skip),
            tile.p.start.eq(
                Mux(s.k == 0, Mux(s.modes.planes, Array(PLANE_STARTS)[s.plane], s.modes.start), 1)
            ),
            tile.p.macs.eq(s.macs),
            tile.p.last.eq(s.last_k & s.last_plane & s.last_j),
            s.ends.eq(s.takes & s.final & s.last_k & s.last_plane & s.last_j),
            self.i.ready.eq(~s.busy | s.ends),
        ]

    def _find_addresses(self, m: Module, s: _Signals) -> None:
        """Addresses of row tile 0 of this column and of its next product of planes."""
        line_bits = ceil_log2(self.line)
        m.d.comb += [
            s.pairs.eq(s.modes.planes & (s.modes.start == Start.ADD)),
            s.last_plane.eq(~s.modes.planes | (s.plane == Mux(s.pairs, 1, 2))),
            s.x_other.eq(s.command.x + Mux(s.plane == 1, s.command.rows[16:] << line_bits, 0)),
            s.w_other.eq(s.w_column + Mux(s.plane == 0, s.command.first[16:] << line_bits, 0)),
        ]

    def _advance(self, m: Module, s: _Signals) -> None:
        """Advance to the next line, row tile, product of planes, and column."""
        with m.If(s.takes):
            w_step = Mux(s.packed, self.weight_rows * self.line, s.command.w_row)
            m.d.sync += [s.index.eq(s.index + s.step_lines), s.w_line.eq(s.w_line + w_step)]
            with m.If(s.final):
                m.d.sync += s.index.eq(0)
                with m.If(~s.last_k):
                    m.d.sync += [
                        *self._go_to(s, s.w_tile, s.w_tile + s.command.w_k),
                        s.x_tile.eq(s.x_tile + s.command.x_k),
                        s.k.eq(s.k + 1),
                    ]
                    with m.If(s.by_k):
                        m.d.sync += s.position.eq(s.position + self.rows)
                with m.Elif(~s.last_plane):
                    m.d.sync += [
                        *self._go_to(s, s.w_tile, s.w_other),
                        s.x_tile.eq(s.x_other),
                        s.k.eq(0),
                        s.plane.eq(s.plane + 1),
                        s.position.eq(Mux(s.by_n, s.position, 0)),
                    ]
                with m.Elif(~s.last_j):
                    m.d.sync += [
                        s.plane.eq(0),
                        s.w_column.eq(s.w_column + s.command.w_n),
                        *self._go_to(s, s.w_tile, s.w_column + s.command.w_n),
                        s.x_tile.eq(s.command.x),
                        s.sums.eq(s.sums + s.command.sums_n),
                        s.k.eq(0),
                        s.j.eq(s.j + 1),
                        s.position.eq(Mux(s.by_n, s.position + self.columns, 0)),
                    ]
        with m.If(self.i.ready):
            m.d.sync += [
                s.busy.eq(self.i.valid),
                s.command.eq(self.i.p),
                s.w_column.eq(self.i.p.w),
                *self._go_to(s, s.w_tile, self.i.p.w),
                s.x_tile.eq(self.i.p.x),
                s.sums.eq(self.i.p.sums),
                s.k.eq(0),
                s.j.eq(0),
                s.plane.eq(0),
                s.position.eq(0),
            ]

    @staticmethod
    def _go_to(s: _Signals, register: Signal, place: Value) -> list[Any]:
        """Assign the address of a tile, and of its first line."""
        return [register.eq(place), s.w_line.eq(place)]


class RowStreamer(wiring.Component):
    """Requests the rows of tiles: one per cycle, without a gap between queued tiles.

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
        Requests of rows.
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
