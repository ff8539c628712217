# SPDX-License-Identifier: BSD-2-Clause
"""Row statistics of the vector unit, and the scales derived from them."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.functions import Function, ScaleFunction
from diptych.arith.scale import ScaleWord, combine

__all__ = ["Purpose", "RowStatistics"]


class Purpose(enum.Enum, shape=2):
    """Where a scale goes."""

    INVERSE = 0
    DYNAMIC = 1
    FACTOR = 2
    """The scale is stored as a factor for the next one."""
    PRODUCT = 3
    """The scale times the stored factor, to ``dynamic``."""


class RowStatistics(wiring.Component):
    """Statistics and scales of rows, and the scale function of the unit.

    The ``total`` of a row is not stored: it stays in the reducer until its reciprocal is taken.

    Each enabled cycle reads a row, which shows one enabled cycle later, and the statistics of another,
    two enabled cycles later. A scale is written six cycles after its request; one per cycle may be requested, and ``busy`` is
    high while some are pending.

    Parameters
    ----------
    depth : :class:`int`
        Number of rows; at least 2.

    Members
    -------
    enable : :py:`In(1)`
        While low, nothing is read, and what was read holds.
    row : :py:`In(ceil_log2(depth))`
        Row of ``dynamic``, ``inverse`` and ``top``.
    dynamic, inverse, top : :py:`Out(ScaleWord)`, :py:`Out(ScaleWord)`, :py:`Out(signed(32))`
        The scales of the row and its largest score, one enabled cycle later.
    statistics_row : :py:`In(ceil_log2(depth))`
        Row of ``largest`` and ``squares``.
    early_largest, early_squares : :py:`Out(32)`
        The largest magnitude and the sum of squares, one enabled cycle later, from the memory.
    largest, squares : :py:`Out(32)`
        The same two enabled cycles later, from registers.
    write_largest, write_squares, write_top : :py:`In(1)`
        Writes these fields of the row ``write_row``.
    write_row, best, total : :py:`In(ceil_log2(depth))`, :py:`In(signed(32))`, :py:`In(32)`
        The row; the value for ``largest`` and ``top``; the value for ``squares``.
    ask, ask_row : :py:`In(1)`, :py:`In(ceil_log2(depth))`
        Requests a scale of a row.
    function, value, purpose : :py:`In(Function)`, :py:`In(32)`, :py:`In(Purpose)`
        The function of the request, its operand, and the use of the result.
    busy : :py:`Out(1)`
        A requested scale is not written yet.
    load_en, load_row, load_word : :py:`In(1)`, :py:`In(ceil_log2(depth))`, :py:`In(ScaleWord)`
        Writes ``dynamic`` of a row, from the load engine.
    load_ready : :py:`Out(1)`
        The write of the load engine is granted in this cycle.
    """

    enable: Signal
    row: Signal
    dynamic: data.View
    inverse: data.View
    top: Signal
    statistics_row: Signal
    early_largest: Signal
    early_squares: Signal
    largest: Signal
    squares: Signal
    write_largest: Signal
    write_squares: Signal
    write_top: Signal
    write_row: Signal
    best: Signal
    total: Signal
    ask: Signal
    function: enum.EnumView
    value: Signal
    purpose: enum.EnumView
    ask_row: Signal
    busy: Signal
    load_en: Signal
    load_row: Signal
    load_word: data.View
    load_ready: Signal

    def __init__(self, *, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"Number of rows must be at least 2, not {depth!r}")
        self.depth = depth
        number = ceil_log2(depth)
        super().__init__(
            {
                "enable": In(1),
                "row": In(number),
                "dynamic": Out(ScaleWord),
                "inverse": Out(ScaleWord),
                "top": Out(signed(32)),
                "statistics_row": In(number),
                "early_largest": Out(32),
                "early_squares": Out(32),
                "largest": Out(32),
                "squares": Out(32),
                "write_largest": In(1),
                "write_squares": In(1),
                "write_top": In(1),
                "write_row": In(number),
                "best": In(signed(32)),
                "total": In(32),
                "ask": In(1),
                "function": In(Function),
                "value": In(32),
                "purpose": In(Purpose),
                "ask_row": In(number),
                "busy": Out(1),
                "load_en": In(1),
                "load_row": In(number),
                "load_word": In(ScaleWord),
                "load_ready": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def store(
            name: str, output: Any, row: Value, write: Value, at: Value, value: Value
        ) -> None:
            width = Shape.cast(Value.cast(output).shape()).width
            m.submodules[name] = mem = memory.Memory(shape=width, depth=self.depth, init=[])
            reader = mem.read_port()
            writer = mem.write_port()
            m.d.comb += [
                reader.addr.eq(row),
                reader.en.eq(self.enable),
                Value.cast(output).eq(reader.data),
                writer.addr.eq(at),
                writer.en.eq(write),
                writer.data.eq(value),
            ]

        # A register before the function, and one behind it.
        m.submodules.scales = scales = ScaleFunction()
        latency = ScaleFunction.latency + 2
        valid = Signal(latency + 1)
        m.d.sync += valid.eq(valid << 1 | self.ask)
        purposes = [self.purpose]
        rows = [self.ask_row]
        for stage in range(latency):
            purposes.append(Signal(Purpose, name=f"purpose_{stage}", reset_less=True))
            rows.append(Signal.like(self.ask_row, name=f"row_{stage}", reset_less=True))
            m.d.sync += [purposes[-1].eq(purposes[-2]), rows[-1].eq(rows[-2])]
        function = Signal(Function, reset_less=True)
        value = Signal(32, reset_less=True)
        word = Signal(ScaleWord, reset_less=True)
        m.d.sync += [function.eq(self.function), value.eq(self.value), word.eq(scales.word)]
        m.d.comb += [
            scales.enable.eq(1),
            scales.select.eq(function),
            scales.value.eq(value),
            self.busy.eq(valid.any()),
        ]

        factor = Signal(ScaleWord, reset_less=True)
        finished = Signal()
        write_inverse = Signal()
        write_dynamic = Signal()
        written = Signal(ScaleWord)
        product = combine(m, word, factor)
        purpose = purposes[-1]
        m.d.comb += [
            finished.eq(valid[latency - 1]),
            write_inverse.eq(finished & (purpose == Purpose.INVERSE)),
            write_dynamic.eq(
                finished & ((purpose == Purpose.DYNAMIC) | (purpose == Purpose.PRODUCT))
            ),
            written.eq(Mux(purpose == Purpose.PRODUCT, product, word)),
            self.load_ready.eq(~write_dynamic),
        ]
        with m.If(finished & (purpose == Purpose.FACTOR)):
            m.d.sync += factor.eq(word)

        store(
            "dynamics",
            self.dynamic,
            self.row,
            write_dynamic | self.load_en,
            Mux(write_dynamic, rows[-1], self.load_row),
            Mux(write_dynamic, Value.cast(written), Value.cast(self.load_word)),
        )
        store(
            "inverses",
            self.inverse,
            self.row,
            write_inverse,
            rows[-1],
            Value.cast(word),
        )
        store("tops", self.top, self.row, self.write_top, self.write_row, self.best)
        with m.If(self.enable):
            m.d.sync += [
                self.largest.eq(self.early_largest),
                self.squares.eq(self.early_squares),
            ]
        store(
            "largests",
            self.early_largest,
            self.statistics_row,
            self.write_largest,
            self.write_row,
            self.best,
        )
        store(
            "squares_sums",
            self.early_squares,
            self.statistics_row,
            self.write_squares,
            self.write_row,
            self.total,
        )
        return m
