# SPDX-License-Identifier: BSD-2-Clause
"""The accumulators: int32 sums that grow in place."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.banked import BankedMemory

from .vector_ports import ReadPort

__all__ = ["AccumulateStart", "Accumulators", "SumPort"]


class AccumulateStart(enum.Enum, shape=2):
    """What a sum does with the entry's old value."""

    OVERWRITE = 0
    ADD = 1
    ADD_TO_HIGH = 2
    """Adds to 256 times the old value."""


class SumPort(wiring.Signature):
    """Sums on their way into the accumulators; always taken."""

    def __init__(self, columns: int, entries: int) -> None:
        super().__init__(
            {
                "en": Out(1),
                "address": Out(ceil_log2(entries)),
                "start": Out(AccumulateStart),
                "data": Out(data.ArrayLayout(signed(32), columns)),
            }
        )


class Accumulators(wiring.Component):
    """``entries`` of ``columns`` int32.

    A sum per cycle is read, added to and written, 2 cycles from port to memory; two sums into one
    entry must be 2 cycles apart. The vector unit reads on a port of its own.

    Members
    -------
    sums : :py:`In(SumPort(columns, entries))`
        From the array.
    read : :py:`In(ReadPort(...))`
        By the vector unit; always ready.
    count_accumulator_read, count_accumulator_write : :py:`Out(32)`
        Bytes.
    """

    sums: Any
    read: Any
    count_accumulator_read: Signal
    count_accumulator_write: Signal

    def __init__(self, *, columns: int, entries: int) -> None:
        self.columns = columns
        self.entries = entries
        shape = data.ArrayLayout(signed(32), columns)
        super().__init__(
            {
                "sums": In(SumPort(columns, entries)),
                "read": In(ReadPort(shape, entries)),
                "count_accumulator_read": Out(32),
                "count_accumulator_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        storage: Any = BankedMemory(width=32 * self.columns, depth=self.entries, readers=2)
        m.submodules.storage = storage
        now = Signal()
        start = Signal(AccumulateStart)
        address = Signal.like(self.sums.address)
        addend = Signal.like(Value.cast(self.sums.data))
        m.d.comb += [
            storage.read_address_0.eq(self.sums.address),
            storage.read_enable_0.eq(self.sums.en & (self.sums.start != AccumulateStart.OVERWRITE)),
            storage.read_address_1.eq(self.read.address),
            storage.read_enable_1.eq(self.read.en),
            self.read.ready.eq(1),
            Value.cast(self.read.data).eq(storage.read_data_1),
            storage.write_address.eq(address),
            storage.write_enable.eq(now),
        ]
        m.d.sync += now.eq(self.sums.en)
        with m.If(self.sums.en):
            m.d.sync += [
                start.eq(self.sums.start),
                address.eq(self.sums.address),
                addend.eq(Value.cast(self.sums.data)),
            ]
        with m.If(now):
            for c in range(self.columns):
                word = slice(32 * c, 32 * c + 32)
                before = Signal(signed(32), name=f"before_{c}")
                m.d.comb += [
                    before.eq(
                        Mux(
                            start == AccumulateStart.OVERWRITE,
                            0,
                            Mux(
                                start == AccumulateStart.ADD,
                                storage.read_data_0[word],
                                storage.read_data_0[word] << 8,
                            ),
                        )
                    ),
                    storage.write_data[word].eq(before + addend[word]),
                ]
        size = 4 * self.columns
        reads = storage.read_enable_0 + storage.read_enable_1
        m.d.sync += self.count_accumulator_read.eq(self.count_accumulator_read + reads * size)
        with m.If(now):
            m.d.sync += self.count_accumulator_write.eq(self.count_accumulator_write + size)
        return m
