# SPDX-License-Identifier: BSD-2-Clause
"""Reads pieces of scratchpad lines ahead of their use."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .memory_ports import ReadPort

__all__ = ["DEPTH", "Piece", "PieceReader", "Request"]

DEPTH = 4
"""Pieces that are in flight or buffered."""


class Request(data.StructLayout):
    """Payload: a piece to read; elements outside ``mask`` are 0; ``tag`` is returned with it."""

    def __init__(self, *, size: int, piece: int, tag: ShapeLike) -> None:
        super().__init__({"address": ceil_log2(size), "mask": piece, "tag": tag})


class Piece(data.StructLayout):
    """Payload: the elements, and the ``tag`` of their request."""

    def __init__(self, *, piece: int, bits: int, tag: ShapeLike) -> None:
        super().__init__({"data": bits * piece, "tag": tag})


class PieceReader(wiring.Component):
    """Reads pieces of lines, in order, up to :data:`DEPTH` ahead.

    A piece is valid 2 cycles after its request was taken; one per cycle while the memory grants
    the reads. ``o.valid`` does not depend on any input of the same cycle.

    Parameters
    ----------
    line : :class:`int`
        Elements of a line; a power of two.
    size : :class:`int`
        Elements of the memory; a multiple of ``line``.
    unit : :class:`int`
        Alignment of addresses; a power of two up to ``line``.
    piece : :class:`int`
        Elements of a piece, from its address up; those beyond its line are 0.
    bits : :class:`int`
        Bits of an element.
    tag : ShapeLike
        Shape of the tag.

    Members
    -------
    i : :py:`In(stream.Signature(Request(size, piece, tag)))`
        Requests, by the address of an element.
    o : :py:`Out(stream.Signature(Piece(piece, bits, tag)))`
        Pieces.
    port : :py:`Out(ReadPort(line, lines))`
        Port of the memory.
    """

    i: stream.Interface
    o: stream.Interface
    port: Any

    def __init__(
        self, *, line: int, size: int, unit: int, piece: int, bits: int, tag: ShapeLike
    ) -> None:
        self.line = line
        self.bits = bits
        self.unit = unit
        self.piece = piece
        self.tag = tag
        self._piece = Piece(piece=piece, bits=bits, tag=tag)
        super().__init__(
            {
                "i": In(stream.Signature(Request(size=size, piece=piece, tag=tag))),
                "o": Out(stream.Signature(self._piece)),
                "port": Out(ReadPort(data.ArrayLayout(bits, line), size // line)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        request = self.i.p
        unit_bits, line_bits = ceil_log2(self.unit), ceil_log2(self.line)
        bits, size = self.bits * self.piece, self.bits

        outstanding = Signal(range(DEPTH + 1))
        waiting = Signal(range(DEPTH + 1))
        room = Signal()
        accepted = Signal()
        leaves = Signal()
        arrives = Signal()
        m.d.comb += [
            room.eq(outstanding != DEPTH),
            self.port.en.eq(self.i.valid & room),
            self.port.address.eq(request.address[line_bits:]),
            self.i.ready.eq(room & self.port.ready),
            accepted.eq(self.port.en & self.port.ready),
            self.o.valid.eq(waiting != 0),
            leaves.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += [
            arrives.eq(accepted),
            outstanding.eq(outstanding + accepted - leaves),
            waiting.eq(waiting + arrives - leaves),
        ]

        tag = Signal(self.tag, reset_less=True)
        mask = Signal(self.piece, reset_less=True)
        with m.If(accepted):
            m.d.sync += [tag.eq(request.tag), mask.eq(request.mask)]
        line = Value.cast(self.port.data)
        chosen = Signal(bits)
        if self.unit < self.line:
            offset = Signal(line_bits - unit_bits, reset_less=True)
            m.d.sync += offset.eq(request.address[unit_bits:line_bits])
            with m.Switch(offset):
                for n in range(self.line // self.unit):
                    with m.Case(n):
                        m.d.comb += chosen.eq(line[size * self.unit * n :])
        else:
            m.d.comb += chosen.eq(line)

        write = Signal(range(DEPTH))
        read = Signal(range(DEPTH))
        slots = [Signal(self._piece, name=f"slot_{n}", reset_less=True) for n in range(DEPTH)]
        kept = Signal(bits)
        for n in range(self.piece):
            element = slice(size * n, size * (n + 1))
            m.d.comb += kept[element].eq(Mux(mask[n], chosen[element], 0))
        with m.If(arrives):
            m.d.sync += write.eq(write + 1)
            with m.Switch(write):
                for n, slot in enumerate(slots):
                    with m.Case(n):
                        m.d.sync += [slot.data.eq(kept), slot.tag.eq(tag)]
        with m.If(leaves):
            m.d.sync += read.eq(read + 1)
        with m.Switch(read):
            for n, slot in enumerate(slots):
                with m.Case(n):
                    m.d.comb += self.o.payload.eq(slot)
        return m
