# SPDX-License-Identifier: BSD-2-Clause
"""Memories of the panel that keep what they are given: scratchpad, vector memory, parameters."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.banked import BankedMemory

from .ports import ReadPort, WritePort

__all__ = ["BANKS", "Entries", "Scratchpad"]

BANKS = 8
"""Banks of a scratchpad."""


class Entries(wiring.Component):
    """Entries with one read and one write a cycle, by element.

    Every read is accepted. A read sees what was written in earlier cycles. Of several writers the
    first that asks writes.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry; the mask has a bit for each element of an array.
    depth : :class:`int`
        Number of entries; at least 2.
    writers : sequence of :class:`str`
        Names of the writers, first in priority first.

    Members
    -------
    read : :py:`In(ReadPort(shape, depth))`
        Reader.
    write_<name> : :py:`In(WritePort(shape, depth))`
        A writer.

    Raises
    ------
    ValueError
        If there are fewer than two entries, or no writer.
    """

    read: Any

    def __init__(
        self, shape: ShapeLike, *, depth: int, writers: Sequence[str] = ("v", "l")
    ) -> None:
        if depth < 2:
            raise ValueError(f"Entries must be at least 2, not {depth!r}")
        if not writers:
            raise ValueError(f"Writers must be at least one, not {writers!r}")
        self.shape = shape
        self.depth = depth
        self.writers = tuple(writers)
        super().__init__(
            {
                "read": In(ReadPort(shape, depth)),
                **{f"write_{name}": In(WritePort(shape, depth)) for name in writers},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = len(Value.cast(self.read.data))
        elements = len(getattr(self, f"write_{self.writers[0]}").mask)
        storage = BankedMemory(width=width, depth=self.depth, parts=elements)
        m.submodules.storage = storage
        write, read = storage.write, storage.reads[0]
        m.d.comb += [
            self.read.ready.eq(1),
            read.en.eq(self.read.en),
            read.addr.eq(self.read.address),
            Value.cast(self.read.data).eq(read.data),
        ]
        _add_writers(m, write, [(name, getattr(self, f"write_{name}")) for name in self.writers])
        return m


class Scratchpad(wiring.Component):
    """Lines of bytes in banks: each bank takes one read and one write a cycle.

    A bank is a contiguous part of the lines (its number is the high bits of a line's address). A
    port waits (``ready`` is low) while one before it in :attr:`READERS` or :attr:`WRITERS` asks
    for the same bank; ``ready`` of a write port depends on write ports only. A read sees what was
    written in earlier cycles.

    Each cycle in which a port waits is counted in its register ``conflicts_<port>`` (32 bits).

    Parameters
    ----------
    line : :class:`int`
        Bytes of a line; a power of two.
    size : :class:`int`
        Bytes; a power of two.
    banks : :class:`int`
        Banks; a power of two, of at least two lines each.

    Members
    -------
    read_x, read_w, read_v, read_s : :py:`In(ReadPort(line, lines))`
        Readers: activations and weights of the array, vector unit, store.
    write_v, write_l : :py:`In(WritePort(line, lines))`
        Writers: vector unit, load.
    count_scratchpad_read, count_scratchpad_write : :py:`Out(32)`
        Bytes; a read counts a line.

    Raises
    ------
    ValueError
        If a parameter is none of these.
    """

    count_scratchpad_read: Signal
    count_scratchpad_write: Signal

    READERS = ("read_x", "read_w", "read_v", "read_s")
    WRITERS = ("write_v", "write_l")

    read_x: Any
    read_w: Any
    read_v: Any
    read_s: Any
    write_v: Any
    write_l: Any

    def __init__(self, *, line: int = 16, size: int = 1 << 20, banks: int = BANKS) -> None:
        for what, number in (("Line", line), ("Scratchpad size", size), ("Banks", banks)):
            if number < 1 or number & (number - 1):
                raise ValueError(f"{what} must be a power of two, not {number!r}")
        if size < 2 * banks * line:
            raise ValueError(
                f"Scratchpad size must be at least two lines of {line!r} bytes in each of "
                f"{banks!r} banks, not {size!r}"
            )
        self.line = line
        self.size = size
        self.banks = banks
        self.lines = size // line
        shape = data.ArrayLayout(8, line)
        super().__init__(
            {
                **{name: In(ReadPort(shape, self.lines)) for name in self.READERS},
                **{name: In(WritePort(shape, self.lines)) for name in self.WRITERS},
                "count_scratchpad_read": Out(32),
                "count_scratchpad_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.lines // self.banks
        low = ceil_log2(depth)
        readers = [(name, getattr(self, name)) for name in self.READERS]
        writers = [(name, getattr(self, name)) for name in self.WRITERS]
        wants = {name: self._add_bank_choice(m, name, port) for name, port in readers + writers}

        outputs = []
        for bank in range(self.banks):
            storage = BankedMemory(width=8 * self.line, depth=depth, parts=self.line)
            m.submodules[f"bank_{bank}"] = storage
            write, read = storage.write, storage.reads[0]
            outputs.append(read.data)
            m.d.comb += read.en.eq(1)  # a read that nobody asked for harms nobody
            # The last assignment wins, so the first in priority comes last.
            for name, port in reversed(readers):
                with m.If(wants[name][bank]):
                    m.d.comb += read.addr.eq(port.address[:low])
            for name, port in reversed(writers):
                with m.If(wants[name][bank]):
                    m.d.comb += [
                        write.addr.eq(port.address[:low]),
                        write.data.eq(Value.cast(port.data)),
                        write.en.eq(port.mask),
                    ]

        for ports, size, counter in (
            (readers, Const(self.line), self.count_scratchpad_read),
            (writers, None, self.count_scratchpad_write),
        ):
            self._add_arbiter(m, ports, wants)
            moved = Signal(16, name=f"{counter.name}_now")
            m.d.comb += moved.eq(
                sum(
                    (
                        Mux(
                            port.en & port.ready,
                            sum(port.mask, Const(0)) if size is None else size,
                            0,
                        )
                        for _, port in ports
                    ),
                    Const(0),
                )
            )
            with m.If(Cat(port.en for _, port in ports).any()):
                m.d.sync += counter.eq(counter + moved)
        for name, port in readers:
            if self.banks == 1:
                m.d.comb += Value.cast(port.data).eq(outputs[0])
                continue
            source = Signal(ceil_log2(self.banks), name=f"{name}_source", reset_less=True)
            m.d.sync += source.eq(port.address[low:])
            with m.Switch(source):
                for bank, output in enumerate(outputs):
                    with m.Case(bank):
                        m.d.comb += Value.cast(port.data).eq(output)
        return m

    def _add_bank_choice(self, m: Module, name: str, port: Any) -> Signal:
        """Say which bank a port wants, one bit each."""
        wanted = Signal(self.banks, name=f"{name}_wants")
        bits = ceil_log2(self.banks)
        if bits:
            m.d.comb += wanted.eq(port.en << port.address[-bits:])
        else:
            m.d.comb += wanted.eq(port.en)
        return wanted

    def _add_arbiter(
        self, m: Module, ports: Sequence[tuple[str, Any]], wants: dict[str, Signal]
    ) -> None:
        """Let a port wait while one before it wants its bank, and count that."""
        taken: Value = Const(0, self.banks)
        for name, port in ports:
            conflict = Signal(name=f"{name}_conflict")
            conflicts = Signal(32, name=f"conflicts_{name}")
            after = Signal(self.banks, name=f"{name}_taken")
            m.d.comb += [
                conflict.eq((wants[name] & taken).any()),
                port.ready.eq(~conflict),
                after.eq(taken | wants[name]),
            ]
            with m.If(conflict):
                m.d.sync += conflicts.eq(conflicts + 1)
            taken = after


def _add_writers(m: Module, write: Any, ports: Sequence[tuple[str, Any]]) -> None:
    """Let the first port that asks write."""
    taken: Value = Const(0, 1)
    for name, port in ports:
        after = Signal(name=f"{name}_taken")
        m.d.comb += [port.ready.eq(~taken), after.eq(taken | port.en)]
        taken = after
    for _, port in reversed(ports):
        with m.If(port.en):
            m.d.comb += [
                write.addr.eq(port.address),
                write.data.eq(Value.cast(port.data)),
                write.en.eq(port.mask),
            ]
