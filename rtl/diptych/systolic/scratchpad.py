# SPDX-License-Identifier: BSD-2-Clause
"""Memories of the panel: scratchpad, and memories of entries (vectors, parameters, biases)."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.config import ACTIVATION_BITS
from diptych.memory.axi import BEAT_BYTES
from diptych.memory.banked import BankedMemory

from .memory_ports import ReadPort, WritePort

__all__ = ["BANKS", "EntryMemory", "Scratchpad"]

BANKS = 8
"""Banks of a scratchpad."""


class EntryMemory(wiring.Component):
    """A memory of entries with one read and one write per cycle, writable by element.

    Every read is granted. A read returns the data written in earlier cycles. Of several writers the
    first with a request has priority.

    Parameters
    ----------
    shape : ShapeLike
        Shape of an entry; the mask has a bit for each element of an array.
    depth : :class:`int`
        Number of entries; a power of two, at least 2.
    writers : sequence of :class:`str`
        Names of the writers, by decreasing priority.

    Members
    -------
    read : :py:`In(ReadPort(shape, depth))`
        Port of the reader.
    write_<name> : :py:`In(WritePort(shape, depth))`
        Port of a writer.

    Raises
    ------
    ValueError
        If the number of entries is none of these, or there is no writer.
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
    """Lines of elements of 12 bits in banks: each bank takes one read and one write of a block a cycle.

    A bank is a contiguous part of the lines (its number is the high bits of a line's address); a
    block is the unit of access, the larger of a beat's elements and ``group`` lines. Weights and what
    is stored have 8 bits: the lower ones; the others are their sign. A port waits
    (``ready`` is low) while one before it in :attr:`READERS` or :attr:`WRITERS` requests the same
    bank; ``ready`` of a write port depends on write ports only. A read returns the data written in
    earlier cycles.

    Each cycle in which a port waits is counted in its register ``conflicts_<port>`` (32 bits).

    Parameters
    ----------
    line : :class:`int`
        Elements of a line; a power of two.
    size : :class:`int`
        Elements; a power of two.
    banks : :class:`int`
        Banks; a power of two, of at least two blocks each.
    group : :class:`int`
        Lines that a read of weights returns; a power of two.

    Members
    -------
    read_x, read_v, read_s : :py:`In(ReadPort(line, lines))`
        Readers: activations of the array, vector unit; store (bytes).
    read_w : :py:`In(ReadPort(group * line, lines / group))`
        Reader: weights of the array, bytes, by groups of lines.
    write_v : :py:`In(WritePort(line, lines))`
        Writer: vector unit.
    write_l : :py:`In(WritePort(beat, beats))`
        Writer: load; 64 elements, at a multiple of 64.
    write_l_wide : :py:`In(1)`
        What is loaded has 12 bits, not 8 and their sign; for the count of bytes alone.
    count_scratchpad_read, count_scratchpad_write : :py:`Out(32)`
        Bytes read and written: one and a half for 12 bits.

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
    write_l_wide: Signal

    def __init__(
        self, *, line: int = 16, size: int = 1 << 20, banks: int = BANKS, group: int = 1
    ) -> None:
        for what, number in (
            ("Line", line),
            ("Scratchpad size", size),
            ("Banks", banks),
            ("Group", group),
        ):
            if number < 1 or number & (number - 1):
                raise ValueError(f"{what} must be a power of two, not {number!r}")
        block = max(BEAT_BYTES, group * line)
        if size < 2 * banks * block:
            raise ValueError(
                f"Scratchpad size must be at least two blocks of {block!r} bytes in each of "
                f"{banks!r} banks, not {size!r}"
            )
        self.line = line
        self.size = size
        self.banks = banks
        self.group = group
        self.block = block
        self.lines = size // line
        shape = data.ArrayLayout(ACTIVATION_BITS, line)
        super().__init__(
            {
                **{name: In(ReadPort(shape, self.lines)) for name in self.READERS},
                "read_s": In(ReadPort(data.ArrayLayout(8, line), self.lines)),
                "read_w": In(ReadPort(data.ArrayLayout(8, group * line), self.lines // group)),
                "write_v": In(WritePort(shape, self.lines)),
                "write_l": In(
                    WritePort(data.ArrayLayout(ACTIVATION_BITS, BEAT_BYTES), size // BEAT_BYTES)
                ),
                "write_l_wide": In(1),
                "count_scratchpad_read": Out(32),
                "count_scratchpad_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self.size // self.banks // self.block
        readers = [(name, getattr(self, name)) for name in self.READERS]
        writers = [(name, getattr(self, name)) for name in self.WRITERS]
        wants = {name: self._add_bank_choice(m, name, port) for name, port in readers + writers}
        low = ceil_log2(self.block // self.line)  # bits of a line's address inside its block
        group_bits = ceil_log2(self.group)
        bank_bits = ceil_log2(depth)

        # The write of each writer, as a block.
        offered = {}
        size = ACTIVATION_BITS
        for name, port in writers:
            elements = _elements(port)
            wide = Cat(Cat(e, e[-1].replicate(size - len(e))) for e in elements)
            parts = self.block // len(elements)
            place = ceil_log2(parts)
            block_data = Signal(size * self.block, name=f"{name}_block")
            mask = Signal(self.block, name=f"{name}_block_mask")
            m.d.comb += [
                block_data.eq(Cat(*[wide] * parts)),
                mask.eq(
                    port.mask << (port.address[:place] * len(elements)) if parts > 1 else port.mask
                ),
            ]
            offered[name] = (place, block_data, mask)

        outputs = []
        for bank in range(self.banks):
            storage = BankedMemory(width=size * self.block, depth=depth, parts=self.block)
            m.submodules[f"bank_{bank}"] = storage
            write, read = storage.write, storage.reads[0]
            m.d.comb += read.en.eq(1)  # an unused read has no effect
            line_in_block = Signal(range(max(2, self.block // self.line)), name=f"line_{bank}")
            # The last assignment wins, so the first in priority comes last.
            for name, port in reversed(readers):
                with m.If(wants[name][bank]):
                    skipped = group_bits if name == "read_w" else 0
                    own = low - skipped
                    m.d.comb += [
                        read.addr.eq(port.address[own : own + bank_bits]),
                        line_in_block.eq(port.address[:own] << skipped),
                    ]
            for name, _ in reversed(writers):
                place, block_data, mask = offered[name]
                with m.If(wants[name][bank]):
                    m.d.comb += [
                        write.addr.eq(getattr(self, name).address[place : place + bank_bits]),
                        write.data.eq(block_data),
                        write.en.eq(mask),
                    ]
            # Every reader wants at most a group of the block.
            chosen = Signal(size * self.group * self.line, name=f"group_{bank}")
            groups = self.block // self.line // self.group
            parts = [read.data.word_select(n, len(chosen)) for n in range(groups)]
            m.d.comb += chosen.eq(
                _choose(m, parts, line_in_block[group_bits:], name=f"group_number_{bank}")
            )
            outputs.append(chosen)

        for ports, counter in (
            (readers, self.count_scratchpad_read),
            (writers, self.count_scratchpad_write),
        ):
            self._add_arbiter(m, ports)
            # In units of 4 bits.
            moved = Signal(16, name=f"{counter.name}_now")
            total = Signal(33, name=f"{counter.name}_nibbles")
            m.d.comb += [
                counter.eq(total[1:]),
                moved.eq(
                    sum(
                        (
                            Mux(port.en & port.ready, self._nibbles(name, port), 0)
                            for name, port in ports
                        ),
                        Const(0),
                    )
                ),
            ]
            with m.If(Cat(port.en for _, port in ports).any()):
                m.d.sync += total.eq(total + moved)
        for name, port in readers:
            shown = Signal(size * self.group * self.line, name=f"{name}_group")
            m.d.comb += shown.eq(_choose(m, outputs, self._bank_of(port), name=f"{name}_source"))
            answer = _elements(port)
            lines = len(shown) // size // len(answer)
            line: Value = shown
            if lines > 1:
                within = Signal(group_bits, name=f"{name}_within", reset_less=True)
                m.d.sync += within.eq(port.address[:group_bits])
                line = shown.word_select(within, size * len(answer))
            for n, element in enumerate(answer):
                m.d.comb += element.eq(line[size * n : size * (n + 1)])
        return m

    def _nibbles(self, name: str, port: Any) -> Value:
        """Return the units of 4 bits that a port moves."""
        elements = _elements(port)
        count = Const(len(elements)) if name in self.READERS else sum(port.mask, Const(0))
        size = Mux(self.write_l_wide, 3, 2) if name == "write_l" else len(elements[0]) // 4
        return count * size

    def _add_bank_choice(self, m: Module, name: str, port: Any) -> Signal:
        """Say which bank a port wants, one bit each."""
        wanted = Signal(self.banks, name=f"{name}_wants")
        m.d.comb += wanted.eq(port.en << self._bank_of(port))
        return wanted

    def _bank_of(self, port: Any) -> Value:
        """Return the number of the bank that a port addresses."""
        bits = ceil_log2(self.banks)
        return port.address[-bits:] if bits else Const(0, 0)

    def _add_arbiter(self, m: Module, ports: Sequence[tuple[str, Any]]) -> None:
        """Let a port wait while one before it wants its bank, and count that."""
        for place, (name, port) in enumerate(ports):
            # Whether the port itself asks is known late.
            blocked = Signal(name=f"{name}_blocked")
            conflicts = Signal(32, name=f"conflicts_{name}")
            m.d.comb += [
                blocked.eq(
                    Cat(
                        other.en & (self._bank_of(other) == self._bank_of(port))
                        for _, other in ports[:place]
                    ).any()
                ),
                port.ready.eq(~blocked),
            ]
            with m.If(port.en & blocked):
                m.d.sync += conflicts.eq(conflicts + 1)


def _elements(port: Any) -> list[Any]:
    """Return the elements of a port's data."""
    return [port.data[n] for n in range(port.data.shape().length)]


def _choose(m: Module, values: Sequence[Value], number: Value, *, name: str) -> Value:
    """Return the value that had the number in the last cycle.

    The number is decoded before its register: the values come late in the cycle.
    """
    if len(values) == 1:
        return values[0]
    chosen = Signal(len(values), name=name, reset_less=True)
    m.d.sync += chosen.eq(Const(1, 1) << number)
    gated = (value & chosen[n].replicate(len(value)) for n, value in enumerate(values))
    return reduce(or_, gated)


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
