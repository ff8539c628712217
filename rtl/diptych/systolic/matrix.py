# SPDX-License-Identifier: BSD-2-Clause
"""The matrix engine: runs MATRIX commands on the systolic array."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .accumulators import AccumulateStart, SumPort
from .array import SystolicArray
from .isa import MATRIX, Causal, Modes
from .vector_ports import ReadPort

__all__ = ["CAUSES", "MatrixEngine"]

CAUSES = (
    "computing",
    "waiting_activations",
    "waiting_weights",
    "shifting_weights",
    "draining",
    "idle",
)
"""What a cycle of the engine goes to: a row of activations is asked for; it is not granted;
weights are not granted; weights are on their way into the array; the last sums are on their way
out of it; there is no command."""


class _Tiles:
    """Registers that walk over the (column tile, row tile) pairs of a command."""

    def __init__(self, name: str, bits: int) -> None:
        self.j = Signal(16, name=f"{name}_j")
        self.k = Signal(16, name=f"{name}_k")
        self.x = Signal(bits, name=f"{name}_x")
        self.w_j = Signal(bits, name=f"{name}_w_j")
        self.w = Signal(bits, name=f"{name}_w")
        self.sums = Signal(32, name=f"{name}_sums")
        self.left = Signal(name=f"{name}_left")
        """There are tiles left."""


class MatrixEngine(wiring.Component):
    """Runs MATRIX commands (:data:`.MATRIX`), one at a time.

    The weights of a tile are shifted in while the rows of the tile before are streamed, from
    ``rows + columns - 1`` cycles after its first row on, until when the swap travels. A lone tile
    takes ``rows + M + rows + columns + 4`` cycles.

    Parameters
    ----------
    rows, columns : :class:`int`
        Size of the array; powers of two.
    lines : :class:`int`
        Lines of the scratchpad, of ``max(rows, columns)`` bytes.
    entries : :class:`int`
        Entries of the accumulators.

    Members
    -------
    i : :py:`In(stream.Signature(MATRIX))`
        Commands.
    done : :py:`Out(1)`
        In the cycle in which the last sum of a command is in the accumulators.
    activations, weights : :py:`Out(ReadPort)`
        To the scratchpad.
    sums : :py:`Out(SumPort)`
        To the accumulators.
    count_computing, ... : :py:`Out(32)`
        Cycles by cause (:data:`CAUSES`).
    count_macs : :py:`Out(32)`
        Multiplications: rows streamed times elements of the array that hold weights of the matrix.
    """

    i: stream.Interface
    done: Signal
    activations: Any
    weights: Any
    sums: Any
    count_macs: Signal

    def __init__(self, rows: int, columns: int, *, lines: int, entries: int) -> None:
        self.rows = rows
        self.columns = columns
        self.line = max(rows, columns)
        self.lines = lines
        self.array = SystolicArray(rows, columns)
        port = ReadPort(data.ArrayLayout(signed(8), self.line), lines)
        super().__init__(
            {
                "i": In(stream.Signature(MATRIX)),
                "done": Out(1),
                "activations": Out(port),
                "weights": Out(port),
                "sums": Out(SumPort(columns, entries)),
                **{f"count_{cause}": Out(32) for cause in CAUSES},
                "count_macs": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = self.array
        self._bits = ceil_log2(self.line * self.lines)
        self._offset = ceil_log2(self.line)

        # --- command ---
        command = Signal(MATRIX)
        modes = Signal(Modes())
        busy = Signal()
        last_k, last_j = Signal(16), Signal(16)
        row_count = Signal(16)
        load, flow = _Tiles("load", self._bits), _Tiles("flow", self._bits)
        m.d.comb += [
            self.i.ready.eq(~busy),
            modes.eq(command.modes),
            last_k.eq(command.tiles[:16] - 1),
            last_j.eq(command.tiles[16:] - 1),
            row_count.eq(command.rows),
        ]
        with m.If(self.i.valid & self.i.ready):
            payload = self.i.payload
            m.d.sync += [command.eq(payload), busy.eq(1)]
            for tile in (load, flow):
                m.d.sync += [
                    tile.j.eq(0),
                    tile.k.eq(0),
                    tile.x.eq(payload.x),
                    tile.w.eq(payload.w),
                    tile.w_j.eq(payload.w),
                    tile.sums.eq(payload.sums),
                    tile.left.eq(1),
                ]

        def first_row(tile: _Tiles, name: str) -> Signal:
            """Rows that causality skips in a tile."""
            base = Signal(32, name=f"{name}_base")
            skipped = Signal(16, name=f"{name}_skipped")
            m.d.comb += base.eq(
                Mux(modes.causal == Causal.BY_N, tile.j * self.columns, tile.k * self.rows)
            )
            with m.If((modes.causal != Causal.NO) & (base > command.first)):
                m.d.comb += skipped.eq(base - command.first)
            return skipped

        def step(tile: _Tiles) -> None:
            m.d.sync += [
                tile.k.eq(tile.k + 1),
                tile.x.eq(tile.x + command.x_k),
                tile.w.eq(tile.w + command.w_k),
            ]
            with m.If(tile.k == last_k):
                m.d.sync += [
                    tile.k.eq(0),
                    tile.x.eq(command.x),
                    tile.j.eq(tile.j + 1),
                    tile.w_j.eq(tile.w_j + command.w_n),
                    tile.w.eq(tile.w_j + command.w_n),
                    tile.sums.eq(tile.sums + command.sums_n),
                ]
                with m.If(tile.j == last_j):
                    m.d.sync += tile.left.eq(0)

        starved, shadow_full = self._load(m, load, first_row(load, "load"), step, command, modes)
        asks, granted, rows_on_their_way = self._flow(
            m, flow, first_row(flow, "flow"), step, command, modes, shadow_full, row_count
        )
        ends = busy & ~load.left & ~flow.left & ~rows_on_their_way
        m.d.comb += self.done.eq(ends)
        with m.If(ends):
            m.d.sync += busy.eq(0)

        def count(name: str) -> None:
            counter = getattr(self, f"count_{name}")
            m.d.sync += counter.eq(counter + 1)

        with m.If(asks & granted):
            count("computing")
        with m.Elif(asks):
            count("waiting_activations")
        with m.Elif(flow.left & starved):
            count("waiting_weights")
        with m.Elif(flow.left):
            count("shifting_weights")
        with m.Elif(busy):
            count("draining")
        with m.Else():
            count("idle")
        del array
        return m

    def _load(
        self, m: Module, tile: _Tiles, skipped: Signal, step: Any, command: Any, modes: Any
    ) -> tuple[Signal, Signal]:
        """Shift the weights of the next tile into the shadow registers."""
        array = self.array
        port = self.weights
        rows, columns = self.rows, self.columns
        free = Signal(init=1)
        self._shadow_free = free
        full = Signal()
        self._shadow_full = full
        number = Signal(range(max(rows, columns) + 1))
        address = Signal(self._bits)
        reading = Signal()
        last = Signal()
        starved = Signal()
        size = Mux(modes.transposed, columns, rows)
        begin = Signal()
        no_rows = Signal()
        m.d.comb += [
            no_rows.eq(skipped >= command.rows),
            begin.eq(tile.left & free & ~full & ~reading & ~self._arriving(m)),
            port.address.eq(address >> self._offset),
            port.en.eq(reading),
            starved.eq(reading & ~port.ready),
        ]
        with m.If(begin):
            with m.If(no_rows):
                step(tile)
            with m.Else():
                # The last row or column first: it has the longest way.
                m.d.sync += [
                    reading.eq(1),
                    number.eq(size - 1),
                    address.eq(
                        tile.w
                        + Mux(
                            modes.transposed,
                            command.w_row * (columns - 1),
                            command.w_row * (rows - 1),
                        )
                    ),
                ]
        arrives = Signal()
        arriving = Signal.like(number)
        piece = Signal(self._offset + 1)
        in_last_column_tile = Signal()
        m.d.sync += arrives.eq(reading & port.ready)
        m.d.comb += last.eq(number == 0)
        with m.If(reading & port.ready):
            m.d.sync += [
                number.eq(number - 1),
                address.eq(address - command.w_row),
                arriving.eq(number),
                piece.eq(address[: self._offset]),
                in_last_column_tile.eq(tile.j == command.tiles[16:] - 1),
            ]
            with m.If(last):
                m.d.sync += [reading.eq(0), full.eq(1), free.eq(0)]
                step(tile)
        m.d.comb += self._arrives.eq(arrives)

        # What lies outside of the matrix counts as 0.
        line = Value.cast(port.data)
        end_column = Mux(in_last_column_tile & (modes.end_column != 0), modes.end_column, columns)
        valid_row = (arriving >= modes.first_row) & (arriving < modes.end_row)
        down = line.word_select(piece >> ceil_log2(columns), 8 * columns)
        right = line.word_select(piece >> ceil_log2(rows), 8 * rows)
        with m.If(arrives & ~modes.transposed):
            m.d.comb += array.shift_down.eq(1)
            for c in range(columns):
                m.d.comb += array.north[c].eq(
                    Mux(valid_row & (c < end_column), down[8 * c : 8 * c + 8], 0)
                )
        with m.If(arrives & modes.transposed):
            m.d.comb += array.shift_right.eq(1)
            for r in range(rows):
                inside = (modes.first_row <= r) & (r < modes.end_row) & (arriving < end_column)
                m.d.comb += array.west[r].eq(Mux(inside, right[8 * r : 8 * r + 8], 0))
        return starved, full

    def _arriving(self, m: Module) -> Signal:
        self._arrives = Signal(name="weights_arrive")
        return self._arrives

    def _flow(
        self,
        m: Module,
        tile: _Tiles,
        skipped: Signal,
        step: Any,
        command: Any,
        modes: Any,
        full: Signal,
        row_count: Signal,
    ) -> tuple[Signal, Signal, Signal]:
        """Stream rows of activations through the array, and their sums to the accumulators."""
        array = self.array
        port = self.activations
        rows = self.rows
        row = Signal(16)
        started = Signal()
        address = Signal(self._bits)
        entry = Signal(32)
        here_row, here_address, here_entry = Signal(16), Signal(self._bits), Signal(32)
        asks, granted, last, empty = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            empty.eq(tile.left & ~started & (skipped >= row_count)),
            here_row.eq(Mux(started, row, skipped)),
            here_address.eq(
                Mux(started, address, tile.x + (skipped * command.x_row[: self._bits]))
            ),
            here_entry.eq(Mux(started, entry, tile.sums + skipped)),
            # The weights are in the shadow registers when the row's data are there.
            asks.eq(tile.left & ~empty & (started | full)),
            port.en.eq(asks),
            port.address.eq(here_address >> self._offset),
            granted.eq(port.ready),
            last.eq(here_row == row_count - 1),
        ]
        enters = Signal()
        swap = Signal()
        piece = Signal(self._offset + 1)
        new_entry = Signal(32)
        start = Signal(AccumulateStart)
        m.d.sync += [enters.eq(asks & granted), swap.eq(asks & granted & ~started)]
        with m.If(empty):
            step(tile)
        with m.If(asks & granted):
            m.d.sync += [
                started.eq(~last),
                row.eq(here_row + 1),
                address.eq(here_address + command.x_row),
                entry.eq(here_entry + 1),
                piece.eq(here_address[: self._offset]),
                new_entry.eq(here_entry),
                start.eq(Mux(tile.k == 0, modes.start, AccumulateStart.ADD)),
                self.count_macs.eq(self.count_macs + rows * self.columns),
            ]
            with m.If(last):
                step(tile)
            with m.If(~started):
                m.d.sync += full.eq(0)

        # The shadow registers are free again when the swap has passed.
        travels = Signal(range(array.latency + 2))
        with m.If(swap):
            m.d.sync += travels.eq(array.latency)
        with m.Elif(travels != 0):
            m.d.sync += travels.eq(travels - 1)
            with m.If(travels == 1):
                m.d.sync += self._shadow_free.eq(1)

        chosen = Value.cast(port.data).word_select(piece >> ceil_log2(rows), 8 * rows)
        with m.If(enters):
            m.d.comb += array.swap.eq(swap)
            for r in range(rows):
                byte = chosen[8 * r : 8 * r + 8]
                m.d.comb += array.activations[r].eq(Mux(modes.unsigned, byte, byte.as_signed()))

        # What belongs to a sum travels beside it.
        depth = array.latency
        valid = Signal(depth)
        entries = [Signal(len(self.sums.address), name=f"entry_{n}") for n in range(depth)]
        starts = [Signal(AccumulateStart, name=f"start_{n}") for n in range(depth)]
        moving = Signal()
        m.d.comb += [moving.eq(enters | valid.any()), array.enable.eq(moving)]
        with m.If(moving):
            m.d.sync += [
                valid.eq(Cat(enters, valid)),
                entries[0].eq(new_entry),
                starts[0].eq(start),
            ]
            for values in (entries, starts):
                for before, behind in pairwise(values):
                    m.d.sync += behind.eq(before)
        m.d.comb += [
            self.sums.en.eq(valid[-1]),
            self.sums.address.eq(entries[-1]),
            self.sums.start.eq(starts[-1]),
            self.sums.data.eq(array.sums),
        ]
        settling = Signal(2)
        m.d.sync += settling.eq(Cat(self.sums.en, settling))
        on_their_way = Signal()
        m.d.comb += on_their_way.eq(moving | settling.any() | (travels != 0))
        return asks, granted, on_their_way
