# SPDX-License-Identifier: BSD-2-Clause
"""Big memories, made of equal banks whose Verilog is emitted once."""

from functools import cache
from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.precompiled import Precompiled

__all__ = ["BankedMemory"]

BANK_DEPTH = 1024


def _ports(width: int, parts: int, readers: int, depth: int) -> dict[str, Any]:
    """Return the members of one write port and some read ports."""
    bits = ceil_log2(depth)
    return {
        "write_enable": In(parts),
        "write_address": In(bits),
        "write_data": In(width),
        **{f"read_enable_{n}": In(1) for n in range(readers)},
        **{f"read_address_{n}": In(bits) for n in range(readers)},
        **{f"read_data_{n}": Out(width) for n in range(readers)},
    }


class _Bank(wiring.Component):
    def __init__(self, width: int, parts: int, readers: int, depth: int, transparent: bool) -> None:
        self.width, self.parts, self.readers, self.depth = width, parts, readers, depth
        self.transparent = transparent
        super().__init__(_ports(width, parts, readers, depth))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        me: Any = self
        m.submodules.storage = storage = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write = storage.write_port(granularity=self.width // self.parts)
        m.d.comb += [
            write.en.eq(me.write_enable),
            write.addr.eq(me.write_address),
            write.data.eq(me.write_data),
        ]
        for n in range(self.readers):
            read = storage.read_port(transparent_for=(write,) if self.transparent else ())
            m.d.comb += [
                read.en.eq(getattr(self, f"read_enable_{n}")),
                read.addr.eq(getattr(self, f"read_address_{n}")),
                getattr(self, f"read_data_{n}").eq(read.data),
            ]
        return m


@cache
def _bank(width: int, parts: int, readers: int, depth: int, transparent: bool) -> _Bank:
    # Stand-ins of one name must share one prototype.
    return _Bank(width, parts, readers, depth, transparent)


class BankedMemory(wiring.Component):
    """A synchronous memory with one write port and some read ports.

    ``read_data_<n>`` shows the entry in the cycle after ``read_enable_<n>``, and only then.

    Parameters
    ----------
    width : :class:`int`
        Bits of an entry.
    depth : :class:`int`
        Number of entries; a power of two.
    parts : :class:`int`
        Parts of an entry that are written separately, a bit of ``write_enable`` each.
    readers : :class:`int`
        Number of read ports.
    transparent : :class:`bool`
        Whether a read returns data written in the same cycle.

    Members
    -------
    write_enable : :py:`In(parts)`
        Writes, for each part of the entry.
    write_address, write_data : :py:`In(ceil_log2(depth))`, :py:`In(width)`
        The entry.
    read_enable_<n>, read_address_<n> : :py:`In(1)`, :py:`In(ceil_log2(depth))`
        Reads an entry, by port ``n``.
    read_data_<n> : :py:`Out(width)`
        The entry, one cycle later.

    Attributes
    ----------
    write, reads
        The same ports, with ``en``, ``addr`` and ``data`` as in Amaranth's memories.
    """

    write_enable: Signal
    write_address: Signal
    write_data: Signal

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        parts: int = 1,
        readers: int = 1,
        transparent: bool = False,
    ) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth must be a power of two, at least 2, not {depth!r}")
        self.width, self.depth, self.parts, self.readers = width, depth, parts, readers
        self.transparent = transparent
        super().__init__(_ports(width, parts, readers, depth))
        self.write = SimpleNamespace(
            en=self.write_enable, addr=self.write_address, data=self.write_data
        )
        self.reads = [
            SimpleNamespace(
                en=getattr(self, f"read_enable_{n}"),
                addr=getattr(self, f"read_address_{n}"),
                data=getattr(self, f"read_data_{n}"),
            )
            for n in range(readers)
        ]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        size = min(self.depth, BANK_DEPTH)
        low = ceil_log2(size)
        prototype = _bank(self.width, self.parts, self.readers, size, self.transparent)
        suffix = "_transparent" if self.transparent else ""
        name = f"bank_{self.width}_{self.parts}_{self.readers}_{size}{suffix}"
        banks: list[Any] = []
        for index in range(self.depth // size):
            bank: Any = Precompiled(prototype, name)
            m.submodules[f"bank_{index}"] = bank
            banks.append(bank)
            chosen = Const(1) if self.depth == size else self.write_address[low:] == index
            m.d.comb += [
                bank.write_enable.eq(Mux(chosen, self.write_enable, 0)),
                bank.write_address.eq(self.write_address[:low]),
                bank.write_data.eq(self.write_data),
            ]
        for n in range(self.readers):
            enable = getattr(self, f"read_enable_{n}")
            address = getattr(self, f"read_address_{n}")
            source = Signal(range(max(2, len(banks))), name=f"source_{n}")
            if len(banks) > 1:
                with m.If(enable):
                    m.d.sync += source.eq(address[low:])
            with m.Switch(source):
                for index, bank in enumerate(banks):
                    with m.Case(index):
                        m.d.comb += getattr(self, f"read_data_{n}").eq(
                            getattr(bank, f"read_data_{n}")
                        )
            for index, bank in enumerate(banks):
                chosen = Const(1) if len(banks) == 1 else address[low:] == index
                m.d.comb += [
                    getattr(bank, f"read_enable_{n}").eq(enable & chosen),
                    getattr(bank, f"read_address_{n}").eq(address[:low]),
                ]
        return m
