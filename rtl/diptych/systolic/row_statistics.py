# SPDX-License-Identifier: BSD-2-Clause
"""Row statistics of the vector unit, and the scales derived from them."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.functions import Function, ScaleFunction
from diptych.arith.scale import ScaleWord

__all__ = ["Purpose", "RowStatistics"]


class Purpose(enum.Enum, shape=1):
    """Where a scale goes."""

    INVERSE = 0
    DYNAMIC = 1


class RowStatistics(wiring.Component):
    """Statistics and scales of rows, and the scale function of the unit.

    Sums of a row are not stored: they stay in the reducer until a scale is made of them.

    Each enabled cycle reads a row, and the statistic of another, which show one enabled cycle later. A scale is written six cycles after its request; one per cycle may be requested, and ``busy`` is
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
        Row of ``largest``.
    largest : :py:`Out(32)`
        The largest magnitude, one enabled cycle later.
    write_largest, write_top : :py:`In(1)`
        Writes these fields of the row ``write_row``.
    write_row, best : :py:`In(ceil_log2(depth))`, :py:`In(signed(32))`
        The row; the value for ``largest`` and ``top``.
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
    largest: Signal
    write_largest: Signal
    write_top: Signal
    write_row: Signal
    best: Signal
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
                "largest": Out(32),
                "write_largest": In(1),
                "write_top": In(1),
                "write_row": In(number),
                "best": In(signed(32)),
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

        finished = Signal()
        write_inverse = Signal()
        write_dynamic = Signal()
        purpose = purposes[-1]
        m.d.comb += [
            finished.eq(valid[latency - 1]),
            write_inverse.eq(finished & (purpose == Purpose.INVERSE)),
            write_dynamic.eq(finished & (purpose == Purpose.DYNAMIC)),
            self.load_ready.eq(~write_dynamic),
        ]

        store(
            "dynamics",
            self.dynamic,
            self.row,
            write_dynamic | self.load_en,
            Mux(write_dynamic, rows[-1], self.load_row),
            Mux(write_dynamic, Value.cast(word), Value.cast(self.load_word)),
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
        store(
            "largests",
            self.largest,
            self.statistics_row,
            self.write_largest,
            self.write_row,
            self.best,
        )
        return m
