# SPDX-License-Identifier: BSD-2-Clause
"""The memory of a tile."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, Signature

from diptych.arith.one_hot import select
from diptych.config import DEFAULTS

__all__ = ["BANKS", "WORD_ADDRESS_BITS", "PairPort", "ReadPort", "Sram", "WritePort"]

BANKS = 4
"""Banks, by the low bits of the word address."""
WORD_BITS = 64
WORD_ADDRESS_BITS = 13
"""Bits of a word address: up to 64 KiB."""


class ReadPort(Signature):
    """Reads the 64-bit word at ``address``, as seen by the reader.

    ``data`` is the word from the cycle after the grant (``valid`` and ``ready``) until the next
    grant of the same port. ``ready`` depends on ``valid`` of the other ports.

    Members
    -------
    valid, address : :py:`Out(1)`, :py:`Out(WORD_ADDRESS_BITS)`
        Request of a word, by word address.
    ready, data : :py:`In(1)`, :py:`In(64)`
        The request is granted; the word.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "address": Out(WORD_ADDRESS_BITS),
                "ready": In(1),
                "data": In(WORD_BITS),
            }
        )


class PairPort(Signature):
    """A :class:`ReadPort` that may read two words at once, as seen by the reader.

    Members
    -------
    valid, address, ready, data
        As of :class:`ReadPort`.
    pair : :py:`Out(1)`
        The word behind that at an even ``address`` is read, too.
    upper : :py:`In(64)`
        That word, as ``data``.
    """

    def __init__(self) -> None:
        members = ReadPort().members
        super().__init__({**members, "pair": Out(1), "upper": In(WORD_BITS)})


class WritePort(Signature):
    """Writes the bytes in ``mask`` of the word at ``address``, as seen by the writer.

    A read returns the data written in earlier cycles.

    Members
    -------
    valid, address : :py:`Out(1)`, :py:`Out(WORD_ADDRESS_BITS)`
        Request of a write, by word address.
    data, mask : :py:`Out(64)`, :py:`Out(8)`
        The word, and the bytes of it that are written.
    ready : :py:`In(1)`
        The write is granted.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "address": Out(WORD_ADDRESS_BITS),
                "data": Out(WORD_BITS),
                "mask": Out(8),
                "ready": In(1),
            }
        )


class Sram(wiring.Component):
    """64-bit words in four banks: reads of two ports and one write per cycle.

    Of the ports that ask, one is granted a read if at most one that comes before it in
    :attr:`READERS` asks, and that for other banks. The port that comes first in :attr:`WRITERS`
    writes.

    Parameters
    ----------
    size : :class:`int`
        Bytes; a multiple of 256, at most 65536.

    Members
    -------
    pipe_a, receiver, transmitter, scalar : :py:`In(ReadPort())`
        Readers.
    pipe_b : :py:`In(PairPort())`
        Reader.
    receiver_write, pipe_write, scalar_write, loader_write : :py:`In(WritePort())`
        Writers.
    count_sram_read, count_sram_write : :py:`Out(32)`
        Bytes, up to the cycle before the last one.

    Raises
    ------
    ValueError
        If the size is out of range.
    """

    READERS = ("pipe_a", "pipe_b", "receiver", "transmitter", "scalar")
    WRITERS = ("receiver_write", "pipe_write", "scalar_write", "loader_write")

    count_sram_read: Signal
    count_sram_write: Signal
    pipe_b: Any

    def __init__(self, *, size: int = DEFAULTS.sram_bytes) -> None:
        if size not in range(256, 65537, 256):
            raise ValueError(f"SRAM size must be a multiple of 256 up to 65536, not {size!r}")
        self.size = size
        super().__init__(
            {
                **{name: In(ReadPort()) for name in self.READERS},
                "pipe_b": In(PairPort()),
                **{name: In(WritePort()) for name in self.WRITERS},
                "count_sram_read": Out(32),
                "count_sram_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # --- one write ---
        writers = [getattr(self, name) for name in self.WRITERS]
        asks = [port.valid for port in writers]
        for n, port in enumerate(writers):
            m.d.comb += port.ready.eq(~Cat(asks[:n]).any())
        # It enters its bank a cycle later: who writes is known late.
        to = Signal(WORD_ADDRESS_BITS, name="written_to", reset_less=True)
        data = Signal(WORD_BITS, name="written_data", reset_less=True)
        written = Signal(8)
        m.d.sync += [
            to.eq(_of_first(asks, [port.address for port in writers])),
            data.eq(_of_first(asks, [port.data for port in writers])),
            written.eq(_of_first(asks, [*(port.mask for port in writers), Const(0)])),
            self.count_sram_write.eq(self.count_sram_write + sum(written[1:], written[0])),
        ]
        # What entered in the cycle before, and its mask for each bank.
        entered_to = Signal.like(to, name="entered_to", reset_less=True)
        entered_data = Signal.like(data, name="entered_data", reset_less=True)
        entered = [Signal(8, name=f"entered_{bank}") for bank in range(BANKS)]
        m.d.sync += [entered_to.eq(to), entered_data.eq(data)]

        # --- two reads, of different banks ---
        grants: list[Signal] = []
        before: list[Any] = []
        for name in self.READERS:
            port = getattr(self, name)
            granted, crowded = Signal(name=f"{name}_granted"), Signal(name=f"{name}_crowded")
            clashes = Signal(max(1, len(before)), name=f"{name}_clashes")
            for bit, other in enumerate(before):
                same = other.address[:2] == port.address[:2]
                if self.pipe_b in (other, port):
                    same_pair = other.address[1] == port.address[1]
                    same = Mux(self.pipe_b.pair, same_pair, same)
                m.d.comb += clashes[bit].eq(other.valid & same)
            # By what is asked for, not by what is granted: grants need not wait for each other.
            two = [a.valid & b.valid for a, b in combinations(before, 2)]
            m.d.comb += [
                crowded.eq(Cat(two).any()),
                port.ready.eq(~crowded & ~clashes.any()),
                granted.eq(port.valid & port.ready),
            ]
            before.append(port)
            grants.append(granted)
        one = Cat(grants).any()
        two = Cat(a & b for a, b in combinations(grants, 2)).any()
        reads, pair = Signal(2), Signal()
        m.d.comb += pair.eq(grants[self.READERS.index("pipe_b")] & self.pipe_b.pair)
        m.d.sync += [
            reads.eq(Mux(pair, Cat(two, 1), Cat(one & ~two, two))),
            self.count_sram_read.eq(self.count_sram_read + Cat(Const(0, 3), reads)),
        ]

        rows = self.size // (WORD_BITS // 8) // BANKS
        attributes: Any = {"no_rw_check": 1}
        ports = [getattr(self, name) for name in self.READERS]
        outputs = []
        for bank in range(BANKS):
            m.submodules[f"bank_{bank}"] = storage = memory.Memory(
                shape=unsigned(WORD_BITS), depth=rows, init=[], attrs=attributes
            )
            write = storage.write_port(granularity=8)
            read = storage.read_port()
            # The first port that asks for it is the one that may be granted: the bank need not
            # wait for the grants, and what nobody was granted is not looked at.
            asks = Signal(len(ports), name=f"bank_{bank}_asks")
            m.d.comb += [
                asks.eq(Cat(port.valid & self._reads(port, bank) for port in ports)),
                write.addr.eq(to[2:]),
                write.data.eq(data),
                write.en.eq(Mux(to[:2] == bank, written, 0)),
                read.addr.eq(_of_first(asks, [port.address[2:] for port in ports])),
                read.en.eq(asks.any()),
            ]
            m.d.sync += entered[bank].eq(write.en)
            # With the bytes that were written while it was read.
            from_ = Signal.like(read.addr, name=f"read_from_{bank}", reset_less=True)
            output, same = Signal(WORD_BITS, name=f"output_{bank}"), Signal(name=f"same_{bank}")
            m.d.sync += from_.eq(read.addr)
            m.d.comb += same.eq(entered_to[2:] == from_)
            for byte in range(8):
                is_new = same & entered[bank][byte]
                new, old = (x.word_select(byte, 8) for x in (entered_data, read.data))
                m.d.comb += output.word_select(byte, 8).eq(Mux(is_new, new, old))
            outputs.append(output)

        # A bank shows a word for a cycle; each port keeps its own word beyond that.
        for name, granted in zip(self.READERS, grants, strict=True):
            port = getattr(self, name)
            # The bank that was read in the cycle before, and none: the kept word.
            fresh = Signal(BANKS, name=f"{name}_from")
            old = Signal(name=f"{name}_old", init=1)
            kept = Signal(WORD_BITS, name=f"{name}_kept", reset_less=True)
            m.d.sync += [
                fresh.eq(Mux(granted, 1 << port.address[:2], 0)),
                old.eq(~granted),
                kept.eq(port.data),
            ]
            m.d.comb += port.data.eq(select(Cat(fresh, old), [*outputs, kept]))
        upper, came = Signal(2), Signal()
        behind = Signal(WORD_BITS, name="pipe_b_kept_upper", reset_less=True)
        m.d.sync += [
            upper.eq(Mux(pair, 1 << self.pipe_b.address[1], 0)),
            behind.eq(self.pipe_b.upper),
        ]
        m.d.comb += [
            came.eq(upper.any()),
            self.pipe_b.upper.eq(select(Cat(upper, ~came), [*outputs[1::2], behind])),
        ]
        return m

    def _reads(self, port: Any, bank: int) -> Any:
        """Whether a port that is granted reads a bank."""
        if port is not self.pipe_b:
            return port.address[:2] == bank
        return (port.address[1] == bank >> 1) & ((port.address[0] == bank & 1) | port.pair)


def _of_first(flags: Iterable[Value], values: Sequence[Value]) -> Value:
    """Return the value of the first flag that is set; the last one if none of the others is."""
    chosen = values[-1]
    for flag, value in reversed([*zip(flags, values[:-1], strict=False)]):
        chosen = Mux(flag, value, chosen)
    return chosen
