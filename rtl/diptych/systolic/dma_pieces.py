# SPDX-License-Identifier: BSD-2-Clause
"""The part of the load engine that puts pieces of a stream of beats to lines of the scratchpad."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES

from .memory_ports import WritePort

__all__ = ["PieceWriter", "Pieces"]

BITS = ceil_log2(BEAT_BYTES)


class Pieces(data.StructLayout):
    """``rows`` pieces of ``bytes`` bytes to ``target``, ``target_pitch`` apart.

    The first begins with byte ``skip`` of the first beat. ``dense``: each begins where the one
    before ended, and is filled with zeros up to the end of its last line; else each begins with a
    beat.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "bytes": 32,
                "rows": 16,
                "target": 32,
                "target_pitch": 32,
                "skip": BITS,
                "dense": 1,
            }
        )


class PieceWriter(wiring.Component):
    """Shifts pieces to their places, byte by byte: up to 64 bytes a cycle.

    A cycle writes what a piece has for one aligned block of 64 bytes; the first write comes a
    cycle after the first beat, then one a cycle as long as beats come and the memory takes them.
    The first beat may come with ``start``.

    Parameters
    ----------
    line : :class:`int`
        Bytes of a line; a power of two.
    size : :class:`int`
        Bytes of the scratchpad.

    Members
    -------
    start : :py:`In(1)`
        New pieces, in a cycle in which ``done`` is high.
    pieces : :py:`In(Pieces())`
        Those.
    done : :py:`Out(1)`
        All pieces are written.
    beats : :py:`In(stream.Signature(512))`
        Beats from HBM.
    offers : :py:`Out(1)`
        A write is offered.
    port : :py:`Out(WritePort(beat, beats))`
        The scratchpad.
    """

    start: Signal
    pieces: Any
    done: Signal
    beats: stream.Interface
    offers: Signal
    port: Any

    def __init__(self, *, line: int, size: int) -> None:
        self.line = line
        super().__init__(
            {
                "start": In(1),
                "pieces": In(Pieces()),
                "done": Out(1, init=1),  # pyright: ignore[reportCallIssue]
                "beats": In(stream.Signature(8 * BEAT_BYTES)),
                "offers": Out(1),
                "port": Out(WritePort(data.ArrayLayout(8, BEAT_BYTES), size // BEAT_BYTES)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        command = Signal(Pieces())
        kept = Signal(8 * BEAT_BYTES, reset_less=True)
        have = Signal()
        begin = Signal(BITS)  # first byte of ``kept`` that is not written yet
        left = Signal(32)
        row = Signal(16)
        at = Signal(32)
        row_at = Signal(32)

        # --- how much goes now ---
        offset = Signal(BITS)
        room = Signal(BITS + 1)
        count = Signal(BITS + 1)
        end = Signal(BITS + 2)
        ends_piece, last, writes, fires = Signal(), Signal(), Signal(), Signal()
        beat = self.beats
        m.d.comb += [
            offset.eq(at),
            room.eq(BEAT_BYTES - offset),
            count.eq(Mux(left < room, left, room)),
            end.eq(begin + count),
            ends_piece.eq(left <= room),
            last.eq(ends_piece & (row == command.rows - 1)),
            writes.eq(~self.done & have & ((end <= BEAT_BYTES) | beat.valid)),
            fires.eq(writes & self.port.ready),
            self.offers.eq(writes),
        ]

        # --- bytes: those of the kept beat from ``begin`` on, then those of the next one ---
        window = Signal(8 * BEAT_BYTES)
        turned = Signal(8 * BEAT_BYTES)
        shown = Signal(8 * BEAT_BYTES)
        turn = Signal(BITS)
        from_kept = Signal(BEAT_BYTES)
        valid, mask = Signal(BEAT_BYTES), Signal(BEAT_BYTES)
        ones = Const(2**BEAT_BYTES - 1, BEAT_BYTES)
        line_bits = min(BITS, ceil_log2(self.line))
        filled = Signal(BITS + 1)  # where the line ends in which the piece ends
        m.d.comb += [
            from_kept.eq(ones << begin),
            turn.eq(begin - offset),
            turned.eq(Cat(window, window) >> Cat(Const(0, 3), turn)),
            valid.eq(~(ones << (offset + count))[:BEAT_BYTES]),
            filled.eq(
                Cat(
                    Const(0, line_bits),
                    ((offset + count + 2**line_bits - 1) >> line_bits)[: BITS + 1 - line_bits],
                )
            ),
            mask.eq(Mux(command.dense & ends_piece, ~(ones << filled)[:BEAT_BYTES], valid)),
        ]
        for n in range(BEAT_BYTES):
            byte = slice(8 * n, 8 * n + 8)
            m.d.comb += [
                window[byte].eq(Mux(from_kept[n], kept[byte], beat.payload[byte])),
                shown[byte].eq(Mux(valid[n], turned[byte], 0)),
            ]
        m.d.comb += [
            self.port.en.eq(writes),
            self.port.address.eq(at >> BITS),
            self.port.mask.eq(mask & (ones << offset)[:BEAT_BYTES]),
            Value.cast(self.port.data).eq(shown),
        ]

        # --- beats ---
        drops = Signal()  # what is left of a beat belongs to nobody
        empties = Signal()
        m.d.comb += [
            drops.eq(ends_piece & ~command.dense),
            empties.eq(fires & ((end >= BEAT_BYTES) | drops)),
            # A beat that is not needed for this write is taken if there is room for it.
            beat.ready.eq(
                self.start | (~self.done & (~have | Mux(end > BEAT_BYTES, fires, empties & ~last)))
            ),
        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += [kept.eq(beat.payload), have.eq(1)]
        with m.Elif(empties):
            m.d.sync += have.eq(0)
        with m.If(fires):
            m.d.sync += [
                begin.eq(end),
                at.eq(at + count),
                left.eq(left - count),
            ]
            with m.If(drops):
                m.d.sync += begin.eq(0)
                # The beat that this write began has nothing more to give.
                with m.If(end > BEAT_BYTES):
                    m.d.sync += have.eq(0)
            with m.If(ends_piece):
                m.d.sync += [
                    row.eq(row + 1),
                    left.eq(command.bytes),
                    at.eq(row_at + command.target_pitch),
                    row_at.eq(row_at + command.target_pitch),
                ]
            with m.If(last):
                m.d.sync += self.done.eq(1)
        with m.If(self.start):
            m.d.sync += [
                command.eq(self.pieces),
                self.done.eq(0),
                have.eq(beat.valid),
                begin.eq(self.pieces.skip),
                left.eq(self.pieces.bytes),
                row.eq(0),
                at.eq(self.pieces.target),
                row_at.eq(self.pieces.target),
            ]
        return m
