# SPDX-License-Identifier: BSD-2-Clause
"""The scratchpad: int8 activations, keys, values and weights of the prefill panel."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.banked import BankedMemory

from .vector_ports import ReadPort, WritePort

__all__ = ["Scratchpad"]


class Scratchpad(wiring.Component):
    """Lines of bytes in banks, each of which reads and writes a line per cycle.

    A bank is a contiguous part of the address range. Where several ports want the same bank, the
    one that comes first in :attr:`READERS` or :attr:`WRITERS` has it and the others wait.

    Parameters
    ----------
    line : :class:`int`
        Bytes of a line; a power of two.
    lines : :class:`int`
        Number of lines; a power of two.
    banks : :class:`int`
        Number of banks; a power of two.

    Members
    -------
    activations, vector_read, weights, store : :py:`In(ReadPort)`
        Readers.
    vector_write, load : :py:`In(WritePort)`
        Writers; a mask bit per byte.
    count_scratchpad_read, count_scratchpad_write : :py:`Out(32)`
        Bytes.
    count_conflicts : :py:`Out(32)`
        Cycles in which a port had to wait for another one.
    """

    READERS = ("activations", "vector_read", "weights", "store")
    WRITERS = ("vector_write", "load")

    count_scratchpad_read: Signal
    count_scratchpad_write: Signal
    count_conflicts: Signal

    def __init__(self, *, line: int, lines: int, banks: int = 8) -> None:
        for name, value in (("Line", line), ("Number of lines", lines), ("Number of banks", banks)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value!r}")
        self.line = line
        self.lines = lines
        self.banks = banks
        self._shape = data.ArrayLayout(signed(8), line)
        super().__init__(
            {
                **{name: In(ReadPort(self._shape, lines)) for name in self.READERS},
                **{name: In(WritePort(self._shape, lines)) for name in self.WRITERS},
                "count_scratchpad_read": Out(32),
                "count_scratchpad_write": Out(32),
                "count_conflicts": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.lines // self.banks
        bank_bits = ceil_log2(self.banks)
        low = ceil_log2(depth)
        waits = Signal()

        def wanted(name: str) -> tuple[Any, Signal]:
            port = getattr(self, name)
            bits = Signal(self.banks, name=f"{name}_bank")
            m.d.comb += bits.eq(Mux(port.en, Const(1) << port.address[low : low + bank_bits], 0))
            return port, bits

        grants: list[dict[str, Any]] = []
        for names in (self.READERS, self.WRITERS):
            taken: Any = Const(0, self.banks)
            granted = {}
            for name in names:
                port, bits = wanted(name)
                free = Signal(name=f"{name}_free")
                m.d.comb += [free.eq(~(bits & taken).any()), port.ready.eq(free)]
                with m.If(~free):
                    m.d.comb += waits.eq(1)
                got = Signal(self.banks, name=f"{name}_granted")
                m.d.comb += got.eq(Mux(free, bits, 0))
                granted[name] = got
                taken = taken | got
            grants.append(granted)
        reads, writes = grants

        outputs = []
        for bank in range(self.banks):
            storage: Any = BankedMemory(width=8 * self.line, depth=depth, parts=self.line)
            m.submodules[f"bank_{bank}"] = storage
            for name, got in reads.items():
                with m.If(got[bank]):
                    m.d.comb += storage.read_address_0.eq(getattr(self, name).address[:low])
            m.d.comb += storage.read_enable_0.eq(Cat(got[bank] for got in reads.values()).any())
            for name, got in writes.items():
                port = getattr(self, name)
                with m.If(got[bank]):
                    m.d.comb += [
                        storage.write_address.eq(port.address[:low]),
                        storage.write_data.eq(Value.cast(port.data)),
                        storage.write_enable.eq(port.mask),
                    ]
            outputs.append(storage.read_data_0)
        for name, got in reads.items():
            port = getattr(self, name)
            source = Signal(self.banks, name=f"{name}_source")
            m.d.sync += source.eq(got)
            with m.Switch(source):
                for bank in range(self.banks):
                    with m.Case(1 << bank):
                        m.d.comb += Value.cast(port.data).eq(outputs[bank])

        line = self.line
        read_lines = sum((got.any() for got in reads.values()), Const(0, 1))
        written = sum(
            (
                sum(getattr(self, name).mask, Const(0, 1)) & got.any().replicate(len(got) * 8)
                for name, got in writes.items()
            ),
            Const(0, 1),
        )
        any_write = Cat(got.any() for got in writes.values()).any()
        m.d.sync += self.count_scratchpad_read.eq(self.count_scratchpad_read + read_lines * line)
        with m.If(any_write):
            m.d.sync += self.count_scratchpad_write.eq(self.count_scratchpad_write + written)
        m.d.sync += self.count_conflicts.eq(self.count_conflicts + waits)
        return m
