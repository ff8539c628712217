# SPDX-License-Identifier: BSD-2-Clause
"""What the vector unit remembers of each token row, and the scales that it derives from it."""

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
    """It is kept for the next one."""
    PRODUCT = 3
    """Times the one kept, to ``dynamic``."""


class RowStatistics(wiring.Component):
    """Row states, and the one scale function of the unit.

    A row's ``total`` is not stored: it lives in the reducer until its reciprocal is taken.

    A read shows the row one cycle later and holds. A scale is written four cycles after it was
    asked for; one per cycle may be asked for, and ``busy`` tells that some are on their way.

    Parameters
    ----------
    depth : :class:`int`
        Number of rows; at least 2.

    Members
    -------
    read, row : :py:`In`
        Reads ``dynamic``, ``inverse`` and ``top`` of a row.
    dynamic, inverse, top : :py:`Out`
        What was read.
    read_statistics, statistics_row : :py:`In`
        Reads ``largest`` and ``squares`` of a row.
    largest, squares : :py:`Out(32)`
        What was read.
    write_largest, write_squares, write_top : :py:`In(1)`
        Which fields of row ``write_row`` become ``best`` (``largest``, ``top``) and ``total``.
    ask, function, value, purpose, ask_row : :py:`In`
        Asks for a scale.
    busy : :py:`Out(1)`
        Whether a scale has been asked for and is not written yet.
    load_en, load_row, load_word, load_ready
        Writes ``dynamic`` from outside, in a cycle in which ``load_ready`` is high.
    """

    read: Signal
    row: Signal
    dynamic: data.View
    inverse: data.View
    top: Signal
    read_statistics: Signal
    statistics_row: Signal
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
                "read": In(1),
                "row": In(number),
                "dynamic": Out(ScaleWord),
                "inverse": Out(ScaleWord),
                "top": Out(signed(32)),
                "read_statistics": In(1),
                "statistics_row": In(number),
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
            name: str, output: Any, read: Value, row: Value, write: Value, at: Value, value: Value
        ) -> None:
            width = Shape.cast(Value.cast(output).shape()).width
            m.submodules[name] = mem = memory.Memory(shape=width, depth=self.depth, init=[])
            reader = mem.read_port()
            writer = mem.write_port()
            m.d.comb += [
                reader.addr.eq(row),
                reader.en.eq(read),
                Value.cast(output).eq(reader.data),
                writer.addr.eq(at),
                writer.en.eq(write),
                writer.data.eq(value),
            ]

        m.submodules.scales = scales = ScaleFunction()
        valid = Signal(ScaleFunction.latency + 1)
        m.d.sync += valid.eq(valid << 1 | self.ask)
        purposes = [self.purpose]
        rows = [self.ask_row]
        for stage in range(ScaleFunction.latency):
            purposes.append(Signal(Purpose, name=f"purpose_{stage}", reset_less=True))
            rows.append(Signal.like(self.ask_row, name=f"row_{stage}", reset_less=True))
            m.d.sync += [purposes[-1].eq(purposes[-2]), rows[-1].eq(rows[-2])]
        m.d.comb += [
            scales.enable.eq(1),
            scales.select.eq(self.function),
            scales.value.eq(self.value),
            self.busy.eq(valid.any()),
        ]

        factor = Signal(ScaleWord, reset_less=True)
        finished = Signal()
        write_inverse = Signal()
        write_dynamic = Signal()
        written = Signal(ScaleWord)
        product = combine(m, scales.word, factor)
        purpose = purposes[-1]
        m.d.comb += [
            finished.eq(valid[ScaleFunction.latency - 1]),
            write_inverse.eq(finished & (purpose == Purpose.INVERSE)),
            write_dynamic.eq(
                finished & ((purpose == Purpose.DYNAMIC) | (purpose == Purpose.PRODUCT))
            ),
            written.eq(Mux(purpose == Purpose.PRODUCT, product, scales.word)),
            self.load_ready.eq(~write_dynamic),
        ]
        with m.If(finished & (purpose == Purpose.FACTOR)):
            m.d.sync += factor.eq(scales.word)

        store(
            "dynamics",
            self.dynamic,
            self.read,
            self.row,
            write_dynamic | self.load_en,
            Mux(write_dynamic, rows[-1], self.load_row),
            Mux(write_dynamic, Value.cast(written), Value.cast(self.load_word)),
        )
        store(
            "inverses",
            self.inverse,
            self.read,
            self.row,
            write_inverse,
            rows[-1],
            Value.cast(scales.word),
        )
        store("tops", self.top, self.read, self.row, self.write_top, self.write_row, self.best)
        store(
            "largests",
            self.largest,
            self.read_statistics,
            self.statistics_row,
            self.write_largest,
            self.write_row,
            self.best,
        )
        store(
            "squares_sums",
            self.squares,
            self.read_statistics,
            self.statistics_row,
            self.write_squares,
            self.write_row,
            self.total,
        )
        return m
