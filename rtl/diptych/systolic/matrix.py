# SPDX-License-Identifier: BSD-2-Clause
"""The matrix engine: MATRIX commands on the systolic array."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.config import ACTIVATION_BITS
from diptych.stream_buffer import StreamBuffer

from .array import SystolicArray, check_extent
from .isa import MATRIX
from .matrix_fetch import PieceReader
from .matrix_tiles import RowStreamer, RowTag, Tile, TileSequencer, WeightTag
from .memory_ports import ReadPort, SumPort

__all__ = ["MATRIX_CAUSES", "MatrixEngine"]

WAITED = ("hbm_read", "vector", "hbm_write", "link")
MATRIX_CAUSES = (
    "computing",
    "shifting_weights",
    "waiting_weights",
    "waiting_activations",
    "draining",
    *(f"waiting_{who}" for who in WAITED),
    "idle",
)
"""Causes of a cycle of the matrix engine."""


class _Signals:
    """Signals at the edges of the array.

    Parameters
    ----------
    delay : :class:`int`
        Cycles from a row's entry to its sums.
    row, weights : :class:`stream.Interface`
        Rows and lines of weights, read from the scratchpad.
    array : :class:`.SystolicArray`
        The array.
    """

    def __init__(self, *, delay: int, row: Any, weights: Any, array: SystolicArray) -> None:
        self.row = row
        self.weights = weights
        self.array = array
        # All weights of the next tile are in the array.
        self.loaded = Signal()
        # The next row is the first of its tile.
        self.between = Signal(init=1)
        self.enters = Signal()
        self.shifts = Signal()
        # Rows in the array; the last bit is the row whose sums leave.
        self.valid = Signal(delay)


class MatrixEngine(wiring.Component):
    """Executes MATRIX commands, in order and overlapped.

    While the rows of one tile pass the array, the weights of the next tile load behind it, also
    those of the next command. With F tiles of R x C weights and M rows each, and all reads
    granted, a lone command takes ``W + (F - 1) * max(M, W) + M + R + C + 4`` cycles from the one
    in which it is taken to the one of its ``done``, both counted. W is the cycles that the weights
    of a tile take: R, or R / weight_rows where they lie packed, or C where they load transposed.
    Where W or a side of the array is 4 a command may take one cycle more. Commands with K, N or
    rows of 0 are not allowed.

    Tiles whose rows are all skipped (causal) are left out; ``start`` applies to row tile 0.
    Addresses wrap at the end of their memory.

    Each cycle is counted in one of ``count_computing`` (the array takes a row),
    ``count_shifting_weights`` (it waits for weights, and takes a line of them),
    ``count_waiting_weights``, ``count_waiting_activations``, ``count_draining`` (all rows are in,
    not all sums are out), ``count_waiting_hbm_read``, ``count_waiting_vector``,
    ``count_waiting_hbm_write``, ``count_waiting_link`` (as ``waits`` says) and ``count_idle``.
    ``count_macs`` (64 bits) are useful products; ``bytes_*`` are bytes moved at the ports.

    Parameters
    ----------
    rows, columns : :class:`int`
        Extent R x C of the array; powers of two from 4 to 128.
    scratchpad : :class:`int`
        Bytes of the scratchpad; a power of two, at least two lines.
    accumulators : :class:`int`
        Entries of the accumulators; a power of two, at least 4.
    weight_rows : :class:`int`
        Rows of packed weights that load in a cycle: 1, 2 or 4, at most a quarter of ``rows``.

    Members
    -------
    i : :py:`In(stream.Signature(MATRIX))`
        Commands.
    done : :py:`Out(1)`
        For one cycle per command, in order: its last sum is being added; a read in the second
        cycle after returns it, and no engine reads earlier after a semaphore.
    waits : :py:`In(4)`
        Cause while no command runs: reads from HBM, the vector unit, writes to HBM, the link; for
        the counters.
    x : :py:`Out(ReadPort(line, lines))`
        Reads of activations, of 12 bits each.
    w : :py:`Out(ReadPort(weight_rows * line, lines / weight_rows))`
        Reads of weights.
    sums : :py:`Out(SumPort(columns, accumulators))`
        Sums to the accumulators.

    Raises
    ------
    ValueError
        If a parameter is none of these.
    """

    i: stream.Interface
    done: Signal
    waits: Signal
    x: Any
    w: Any
    sums: Any

    def __init__(
        self,
        *,
        rows: int = 16,
        columns: int = 16,
        scratchpad: int = 1 << 20,
        accumulators: int = 4096,
        weight_rows: int = 1,
    ) -> None:
        check_extent(rows=rows, columns=columns)
        if weight_rows not in (1, 2, 4) or 4 * weight_rows > rows:
            raise ValueError(
                f"Weight rows must be 1, 2 or 4, and at most a quarter of the array's rows "
                f"{rows!r}, not {weight_rows!r}"
            )
        self.weight_rows = weight_rows
        line = max(rows, columns)
        if scratchpad < 2 * line or scratchpad & (scratchpad - 1):
            raise ValueError(
                f"Scratchpad must be a power of two of at least two lines of {line!r} bytes, "
                f"not {scratchpad!r}"
            )
        if accumulators < 4 or accumulators & (accumulators - 1):
            raise ValueError(f"Accumulators must be a power of two from 4, not {accumulators!r}")
        self.rows = rows
        self.columns = columns
        self.line = line
        self.scratchpad = scratchpad
        self.accumulators = accumulators
        shape = data.ArrayLayout(ACTIVATION_BITS, line)
        super().__init__(
            {
                "i": In(stream.Signature(MATRIX)),
                "done": Out(1),
                "waits": In(len(WAITED)),
                "x": Out(ReadPort(shape, scratchpad // line)),
                "w": Out(
                    ReadPort(
                        data.ArrayLayout(8, weight_rows * line), scratchpad // line // weight_rows
                    )
                ),
                "sums": Out(SumPort(columns, accumulators)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rows, columns = self.rows, self.columns
        sizes: dict[str, Any] = {"size": self.scratchpad, "accumulators": self.accumulators}
        unit = min(rows, columns)
        m.submodules.sequencer = sequencer = TileSequencer(
            rows=rows, columns=columns, weight_rows=self.weight_rows, **sizes
        )
        m.submodules.tiles = tiles = StreamBuffer(Tile(**sizes))
        m.submodules.streamer = streamer = RowStreamer(rows=rows, **sizes)
        m.submodules.fetch_x = fetch_x = PieceReader(
            line=self.line,
            size=self.scratchpad,
            unit=rows,
            piece=rows,
            bits=ACTIVATION_BITS,
            tag=RowTag(self.accumulators),
        )
        m.submodules.fetch_w = fetch_w = PieceReader(
            line=self.weight_rows * self.line,
            size=self.scratchpad,
            unit=unit,
            piece=self.weight_rows * self.line,
            bits=8,
            tag=WeightTag(self.line),
        )
        m.submodules.array = array = SystolicArray(
            rows=rows, columns=columns, weight_rows=self.weight_rows
        )
        wiring.connect(m, wiring.flipped(self.i), sequencer.i)
        wiring.connect(m, sequencer.tiles, tiles.i)
        wiring.connect(m, tiles.o, streamer.i)
        wiring.connect(m, streamer.o, fetch_x.i)
        wiring.connect(m, sequencer.weights, fetch_w.i)
        wiring.connect(m, fetch_x.port, wiring.flipped(self.x))
        wiring.connect(m, fetch_w.port, wiring.flipped(self.w))

        s = _Signals(delay=rows + columns, row=fetch_x.o, weights=fetch_w.o, array=array)
        self._enter(m, s)
        self._leave(m, s)
        self._count_cycles(m, s, sequencer)
        return m

    def _enter(self, m: Module, s: _Signals) -> None:
        """Shift weights and rows into the array; a tile's first row swaps its weights in."""
        row, weights, array = s.row, s.weights, s.array
        loaded, between, enters, shifts = s.loaded, s.between, s.enters, s.shifts
        swap = Signal()
        m.d.comb += [
            enters.eq(row.valid & (loaded | ~row.p.tag.first)),
            swap.eq(enters & row.p.tag.first),
            shifts.eq(weights.valid & (~loaded | swap)),
            row.ready.eq(loaded | ~row.p.tag.first),
            weights.ready.eq(~loaded | swap),
            array.swap.eq(swap),
            array.w_valid.eq(shifts),
            array.w_west.eq(weights.p.tag.west),
            array.w_group.eq(weights.p.tag.group),
            array.w_index.eq(weights.p.tag.index),
            Value.cast(array.w).eq(weights.p.data),
        ]
        with m.If(shifts & weights.p.tag.last):
            m.d.sync += loaded.eq(1)
        with m.Elif(swap):
            m.d.sync += loaded.eq(0)
        with m.If(enters):
            m.d.sync += between.eq(row.p.tag.end)

        # Activations follow their swap by a cycle.
        x = Signal(ACTIVATION_BITS * self.rows, reset_less=True)
        m.d.comb += Value.cast(array.x).eq(x)
        m.d.sync += x.eq(row.p.data)

    def _leave(self, m: Module, s: _Signals) -> None:
        """Write the sums that leave the array, ``delay`` cycles after their row entered it."""
        row, valid = s.row, s.valid
        marks = data.StructLayout({"sums": self.sums.address.shape(), "start": 2, "last": 1})
        mark: Value = Cat(row.p.tag.sums, row.p.tag.start, row.p.tag.last)
        for n in range(len(valid)):
            after = Signal(marks, name=f"mark_{n}", reset_less=True)
            m.d.sync += after.as_value().eq(mark)
            mark = after.as_value()
        leaving = data.View(marks, mark)
        m.d.sync += [
            valid.eq(Cat(s.enters, valid)),
            self.done.eq(valid[-1] & leaving.last),
        ]
        m.d.comb += [
            self.sums.en.eq(valid[-1]),
            self.sums.address.eq(leaving.sums),
            self.sums.start.eq(leaving.start),
            Value.cast(self.sums.data).eq(Value.cast(s.array.sums)),
        ]

    def _count_cycles(self, m: Module, s: _Signals, sequencer: TileSequencer) -> None:
        """Count each cycle for the first cause that holds, and products and bytes."""
        row, enters = s.row, s.enters
        commands = Signal(4)  # taken, but not all their rows have entered
        m.d.sync += commands.eq(
            commands + (self.i.valid & self.i.ready) - (enters & row.p.tag.last)
        )
        works = Signal()
        m.d.comb += works.eq(commands != 0)
        needs_weights = Signal()
        m.d.comb += needs_weights.eq(works & s.between & ~s.loaded)
        self._count(
            m,
            causes={
                "computing": enters,
                "shifting_weights": needs_weights & s.shifts,
                "waiting_weights": needs_weights,
                "waiting_activations": works,
                "draining": s.valid.any() | self.done,
                **{f"waiting_{who}": self.waits[n] for n, who in enumerate(WAITED)},
                "idle": Const(1),
            },
            amounts={
                "count_macs": (enters, row.p.tag.macs),
                "count_entered": (enters & row.p.tag.last, 1),  # commands, all rows of them
                "bytes_scratchpad_read": (
                    Const(1),
                    Mux(self.x.en & self.x.ready, self.rows * ACTIVATION_BITS // 8, 0)
                    + Mux(
                        self.w.en & self.w.ready,
                        Mux(
                            sequencer.weights.p.tag.west,
                            self.rows,
                            Mux(sequencer.weights.p.tag.group, self.weight_rows, 1) * self.columns,
                        ),
                        0,
                    ),
                ),
                "bytes_accumulator_read": (self.sums.en & (self.sums.start != 0), 4 * self.columns),
                "bytes_accumulator_write": (self.sums.en, 4 * self.columns),
            },
        )

    def _count(self, m: Module, *, causes: dict[str, Value], amounts: dict[str, Any]) -> None:
        """Count each cycle for the first cause that holds, and add up amounts."""
        blamed = m.If
        for name, cause in causes.items():
            counter = Signal(32, name=f"count_{name}")
            with blamed(cause):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif
        for name, (when, amount) in amounts.items():
            counter = Signal(64 if name == "count_macs" else 32, name=name)
            with m.If(when):
                m.d.sync += counter.eq(counter + amount)
