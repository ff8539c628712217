# SPDX-License-Identifier: BSD-2-Clause
"""Accumulators: partial sums, added in place."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.banked import BankedMemory

from .memory_ports import ReadPort, SumPort

__all__ = ["Accumulators"]


class _Stage(data.StructLayout):
    """Sums on their way to memory."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__({"address": ceil_log2(depth), "start": 2, "addends": width})


class Accumulators(wiring.Component):
    """Entries of int32 in two banks, by the top address bit.

    One entry of sums per cycle, without backpressure, is in memory 3 cycles later: the old entry is
    read, then chosen, then added to. A read in the third cycle after returns it; sums of the next
    cycle already add to it. A read waits while sums that need the old entry access the same bank.

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

        # One cycle later, beside the old entry; two cycles later, with what is added to.
        stages = [
            Signal(_Stage(self.depth, width), name=f"stage_{n}", reset_less=True) for n in (1, 2)
        ]
        valid = Signal(2)
        m.d.sync += [valid.eq(Cat(sums.en, valid)), stages[1].eq(stages[0])]
        with m.If(sums.en):
            m.d.sync += [
                stages[0].address.eq(sums.address),
                stages[0].start.eq(sums.start),
                stages[0].addends.eq(Value.cast(sums.data)),
            ]
        # Sums of the two cycles before are not in memory yet when the old entry is read.
        follows, follows_second = Signal(reset_less=True), Signal(reset_less=True)
        recent = Signal(width, reset_less=True)
        m.d.sync += [
            follows.eq(valid[0] & (stages[0].address == sums.address)),
            follows_second.eq(valid[1] & (stages[1].address == sums.address)),
        ]

        adding, writing = stages
        entries = []
        base, new = Signal(width, reset_less=True), Signal(width)
        for bank in range(2):
            storage = BankedMemory(width=width, depth=self.depth // 2)
            m.submodules[f"bank_{bank}"] = storage
            write, port = storage.write, storage.reads[0]
            adds = Signal(name=f"adds_{bank}")
            m.d.comb += [
                adds.eq(needs_old & (sums.address[low] == bank)),
                port.en.eq(1),
                port.addr.eq(Mux(adds, sums.address[:low], read.address[:low])),
                write.en.eq(valid[1] & (writing.address[low] == bank)),
                write.addr.eq(writing.address[:low]),
                write.data.eq(new),
            ]
            entries.append(port.data)

        source = Signal(reset_less=True)
        old = Signal(width)
        m.d.sync += source.eq(read.address[low])
        m.d.comb += [
            Value.cast(read.data).eq(Mux(source, entries[1], entries[0])),
            old.eq(
                Mux(
                    follows,
                    new,
                    Mux(follows_second, recent, Mux(adding.address[low], entries[1], entries[0])),
                )
            ),
        ]
        m.d.sync += recent.eq(new)
        for n in range(self.columns):
            part = slice(32 * n, 32 * n + 32)
            m.d.sync += base[part].eq(
                Mux(adding.start[1], old[part] << 8, Mux(adding.start[0], old[part], 0))
            )
            m.d.comb += new[part].eq(base[part] + writing.addends[part])
        return m
