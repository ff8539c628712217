# SPDX-License-Identifier: BSD-2-Clause
"""Accumulators: partial sums, added in place."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.banked import BankedMemory

from .memory_ports import ReadPort, SumPort

__all__ = ["Accumulators"]


class Accumulators(wiring.Component):
    """Entries of int32 in two banks, by the top address bit.

    One entry of sums per cycle, without backpressure, is in memory 2 cycles later: a read in the
    second cycle after returns it, and sums of the next cycle already add to it. A read waits while
    sums that need the old entry access the same bank.

    Each cycle in which the reader waits is counted in ``conflicts_read`` (32 bits).

    Parameters
    ----------
    columns : :class:`int`
        Sums of an entry; at least 1.
    depth : :class:`int`
        Entries; a power of two, at least 4.

    Members
    -------
    sums : :py:`In(SumPort(columns, depth))`
        Sums of the array.
    read : :py:`In(ReadPort(columns x int32, depth))`
        Reads of the vector unit.
    count_accumulator_read, count_accumulator_write : :py:`Out(32)`
        Bytes read and written.

    Raises
    ------
    ValueError
        If a parameter is none of these.
    """

    sums: Any
    read: Any
    count_accumulator_read: Signal
    count_accumulator_write: Signal

    def __init__(self, *, columns: int = 16, depth: int = 4096) -> None:
        if columns < 1:
            raise ValueError(f"Columns must be at least 1, not {columns!r}")
        if depth < 4 or depth & (depth - 1):
            raise ValueError(f"Accumulators must be a power of two from 4, not {depth!r}")
        self.columns = columns
        self.depth = depth
        super().__init__(
            {
                "sums": In(SumPort(columns, depth)),
                "read": In(ReadPort(data.ArrayLayout(signed(32), columns), depth)),
                "count_accumulator_read": Out(32),
                "count_accumulator_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low = ceil_log2(self.depth) - 1
        width = 32 * self.columns
        sums, read = self.sums, self.read

        needs_old = Signal()
        conflict = Signal()
        conflicts = Signal(32, name="conflicts_read")
        m.d.comb += [
            needs_old.eq(sums.en & (sums.start != 0)),
            conflict.eq(read.en & needs_old & (sums.address[low] == read.address[low])),
            read.ready.eq(~(needs_old & (sums.address[low] == read.address[low]))),
        ]
        with m.If(conflict):
            m.d.sync += conflicts.eq(conflicts + 1)

        size = 4 * self.columns
        reads = needs_old + (read.en & read.ready)
        m.d.sync += [
            self.count_accumulator_read.eq(self.count_accumulator_read + reads * size),
            self.count_accumulator_write.eq(self.count_accumulator_write + sums.en * size),
        ]

        # One cycle later, beside the old entry.
        valid = Signal()
        address = Signal(low + 1, reset_less=True)
        start = Signal(2, reset_less=True)
        addends = Signal(width, reset_less=True)
        m.d.sync += valid.eq(sums.en)
        with m.If(sums.en):
            m.d.sync += [
                address.eq(sums.address),
                start.eq(sums.start),
                addends.eq(Value.cast(sums.data)),
            ]

        entries = []
        new = Signal(width)
        for bank in range(2):
            storage = BankedMemory(width=width, depth=self.depth // 2, transparent=True)
            m.submodules[f"bank_{bank}"] = storage
            write, port = storage.write, storage.reads[0]
            adds = Signal(name=f"adds_{bank}")
            m.d.comb += [
                adds.eq(needs_old & (sums.address[low] == bank)),
                port.en.eq(1),
                port.addr.eq(Mux(adds, sums.address[:low], read.address[:low])),
                write.en.eq(valid & (address[low] == bank)),
                write.addr.eq(address[:low]),
                write.data.eq(new),
            ]
            entries.append(port.data)

        source = Signal(reset_less=True)
        old = Signal(width)
        m.d.sync += source.eq(read.address[low])
        m.d.comb += [
            Value.cast(read.data).eq(Mux(source, entries[1], entries[0])),
            old.eq(Mux(address[low], entries[1], entries[0])),
        ]
        for n in range(self.columns):
            part = slice(32 * n, 32 * n + 32)
            base = Signal(32, name=f"base_{n}")
            m.d.comb += [
                base.eq(Mux(start[1], old[part] << 8, Mux(start[0], old[part], 0))),
                new[part].eq(base + addends[part]),
            ]
        return m
