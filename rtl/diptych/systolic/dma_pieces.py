# SPDX-License-Identifier: BSD-2-Clause
"""Piece writer of the load engine: aligns pieces of a stream of beats to scratchpad lines."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.config import ACTIVATION_BITS
from diptych.memory.axi import BEAT_BYTES

from .memory_ports import WritePort

__all__ = ["PieceWriter", "Pieces"]

BITS = ceil_log2(BEAT_BYTES)


class Pieces(data.StructLayout):
    """``rows`` pieces of ``bytes`` bytes to ``target``, ``target_pitch`` apart.

    The first starts at byte ``skip`` of the first beat. ``dense``: each starts where the previous
    one ended, and is padded with zeros up to the end of its last line; otherwise each starts at a
    beat. ``wide``: elements have two bytes, and ``target`` and ``target_pitch`` count bytes, too:
    twice the elements.
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
                "wide": 1,
            }
        )


class PieceWriter(wiring.Component):
    """Shifts pieces by bytes to their addresses: up to 64 bytes a cycle.

    A cycle writes the bytes of a piece in one aligned block of 64 bytes. A byte is an element,
    extended by its sign; of two bytes the lower 12 bits are one. The first write is 2 cycles after
    the first beat, then one per cycle while beats arrive and the memory grants the writes. The first
    beat may arrive with ``start``. Writes leave from a register.

    Parameters
    ----------
    line : :class:`int`
        Elements of a line; a power of two.
    size : :class:`int`
        Elements of the scratchpad.

    Members
    -------
    start : :py:`In(1)`
        Starts with new pieces; only while ``done`` is high.
    pieces : :py:`In(Pieces())`
        The new pieces.
    done : :py:`Out(1)`
        All pieces are written.
    beats : :py:`In(stream.Signature(512))`
        Beats from HBM.
    offers : :py:`Out(1)`
        A write is requested.
    port : :py:`Out(WritePort(beat, beats))`
        Port of the scratchpad.
    wide : :py:`Out(1)`
        What is written comes from two bytes an element.
    """

    start: Signal
    pieces: Any
    done: Signal
    beats: stream.Interface
    offers: Signal
    port: Any
    wide: Signal

    def __init__(self, *, line: int, size: int) -> None:
        self.line = line
        super().__init__(
            {
                "start": In(1),
                "pieces": In(Pieces()),
                "done": Out(1),
                "beats": In(stream.Signature(8 * BEAT_BYTES)),
                "offers": Out(1),
                "port": Out(
                    WritePort(data.ArrayLayout(ACTIVATION_BITS, BEAT_BYTES), size // BEAT_BYTES)
                ),
                "wide": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        command = Signal(Pieces())
        kept = Signal(8 * BEAT_BYTES, reset_less=True)
        have = Signal()
        begin = Signal(BITS)  # first byte of the buffered beat that is not written yet
        left = Signal(32)
        rows_left = Signal(16)
        at = Signal(32)
        next_at = Signal(32)  # of the piece after this one

        # --- how much goes now ---
        offset = Signal(BITS)
        count = Signal(BITS + 1)  # a register, as is whether it is all that is left
        end = Signal(BITS + 2)
        ends_piece, last, writes, fires = Signal(), Signal(), Signal(), Signal()
        free = Signal()  # the register of the write
        ended = Signal(init=1)
        beat = self.beats
        m.d.comb += [
            offset.eq(at),
            end.eq(begin + count),
            last.eq(ends_piece & (rows_left == 1)),
            writes.eq(~ended & have & ((end <= BEAT_BYTES) | beat.valid)),
            free.eq(~self.port.en | self.port.ready),
            fires.eq(writes & free),
            self.offers.eq(self.port.en),
            self.done.eq(ended & ~self.port.en),
        ]

        # --- bytes: of the buffered beat from ``begin`` on, then of the next one ---
        window = Signal(8 * BEAT_BYTES)
        turned = Signal(8 * BEAT_BYTES)
        shown = Signal(8 * BEAT_BYTES)
        turn = Signal(BITS)  # from the buffered beat's bytes to those of the block
        from_kept = Signal(BEAT_BYTES)  # ``begin`` and above
        valid, mask = Signal(BEAT_BYTES), Signal(BEAT_BYTES)
        ones = Const(2**BEAT_BYTES - 1, BEAT_BYTES)
        filled = Signal(BITS + 1)  # end of the last line of the piece
        line_bits = ceil_log2(self.line)
        end_of_line = [
            _rounded_up(offset + count, min(BITS, line_bits + wide)) for wide in range(2)
        ]
        m.d.comb += [
            turned.eq(Cat(window, window) >> Cat(Const(0, 3), turn)),
            valid.eq(~(ones << (offset + count))[:BEAT_BYTES]),
            filled.eq(Mux(command.wide, end_of_line[1], end_of_line[0])),
            mask.eq(Mux(command.dense & ends_piece, ~(ones << filled)[:BEAT_BYTES], valid)),
        ]
        for n in range(BEAT_BYTES):
            byte = slice(8 * n, 8 * n + 8)
            m.d.comb += [
                window[byte].eq(Mux(from_kept[n], kept[byte], beat.payload[byte])),
                shown[byte].eq(Mux(valid[n], turned[byte], 0)),
            ]
        with m.If(free):
            m.d.sync += self.port.en.eq(writes)
        m.d.comb += self.wide.eq(command.wide)
        self._write(m, free, at, mask & (ones << offset)[:BEAT_BYTES], shown)

        # --- beats ---
        drops = Signal()  # the rest of the beat is discarded
        empties = Signal()
        m.d.comb += [
            drops.eq(ends_piece & ~command.dense),
            empties.eq(fires & ((end >= BEAT_BYTES) | drops)),
            # A beat that this write does not use is taken if the buffer is free.
            beat.ready.eq(
                self.start | (~ended & (~have | Mux(end > BEAT_BYTES, fires, empties & ~last)))
            ),
        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += [kept.eq(beat.payload), have.eq(1)]
        with m.Elif(empties):
            m.d.sync += have.eq(0)
        after = Signal(32)
        rest_fits = Signal()
        m.d.comb += [after.eq(left - count), rest_fits.eq(_rest_fits(left, count))]
        with m.If(fires):
            m.d.sync += [
                begin.eq(end),
                from_kept.eq(ones << end[:BITS]),
                at.eq(at + count),
                left.eq(after),
                ends_piece.eq(rest_fits),
                count.eq(Mux(rest_fits, after[: BITS + 1], BEAT_BYTES)),
            ]
            with m.If(ends_piece):
                m.d.sync += turn.eq(end - next_at)
            with m.If(drops):
                m.d.sync += [begin.eq(0), from_kept.eq(-1), turn.eq(-next_at)]
                # This write used the rest of its beat.
                with m.If(end > BEAT_BYTES):
                    m.d.sync += have.eq(0)
            with m.If(ends_piece):
                m.d.sync += [
                    rows_left.eq(rows_left - 1),
                    *self._next(count, ends_piece, command.bytes, next_at[:BITS]),
                    left.eq(command.bytes),
                    at.eq(next_at),
                    next_at.eq(next_at + command.target_pitch),
                ]
            with m.If(last):
                m.d.sync += ended.eq(1)
        with m.If(self.start):
            m.d.sync += [
                command.eq(self.pieces),
                ended.eq(0),
                have.eq(beat.valid),
                begin.eq(self.pieces.skip),
                from_kept.eq(ones << self.pieces.skip),
                turn.eq(self.pieces.skip - self.pieces.target),
                left.eq(self.pieces.bytes),
                rows_left.eq(self.pieces.rows),
                *self._next(count, ends_piece, self.pieces.bytes, self.pieces.target[:BITS]),
                at.eq(self.pieces.target),
                next_at.eq(self.pieces.target + self.pieces.target_pitch),
            ]
        return m

    @staticmethod
    def _next(count: Signal, ends_piece: Signal, left: Value, offset: Value) -> list[Any]:
        """Assign how many of the bytes that are left go into the block, and whether all do."""
        room = BEAT_BYTES - offset
        ends = left <= room
        return [ends_piece.eq(ends), count.eq(Mux(ends, left[: BITS + 1], room))]

    def _write(self, m: Module, free: Signal, at: Signal, mask: Value, shown: Signal) -> None:
        """Write the bytes of a block that a mask has, or pairs of them, as elements, from a register."""
        block, chosen = Signal(8 * BEAT_BYTES, reset_less=True), Signal(BEAT_BYTES, reset_less=True)
        place = Signal(32, reset_less=True)
        with m.If(free):
            m.d.sync += [place.eq(at), chosen.eq(mask), block.eq(shown)]
        half = BEAT_BYTES // 2
        narrow, wide = _elements(block)
        m.d.comb += [
            self.port.address.eq(place >> BITS),
            self.port.mask.eq(chosen),
            Value.cast(self.port.data).eq(Cat(narrow)),
        ]
        with m.If(self.wide):
            m.d.comb += [
                self.port.address.eq(place >> BITS + 1),
                self.port.mask.eq(
                    Cat(chosen[::2] & of.replicate(half) for of in (~place[BITS], place[BITS]))
                ),
                Value.cast(self.port.data).eq(Cat(wide, wide)),
            ]


def _rest_fits(left: Signal, count: Signal) -> Value:
    """Return whether ``left - count`` bytes fit into a block, without the difference first."""
    most = Cat(count[:BITS], ~count[BITS], count[BITS])  # BEAT_BYTES + count
    return (left[BITS + 2 :] == 0) & (left[: BITS + 2] <= most)


def _rounded_up(value: Value, bits: int) -> Value:
    """Return a place in a block, rounded up to a multiple of ``2**bits``."""
    return Cat(Const(0, bits), ((value + 2**bits - 1) >> bits)[: BITS + 1 - bits])


def _elements(block: Signal) -> tuple[list[Value], list[Value]]:
    """Return the elements that bytes are, and those that pairs of bytes are."""
    narrow = [block.word_select(n, 8) for n in range(BEAT_BYTES)]
    wide = [block.word_select(n, 16) for n in range(BEAT_BYTES // 2)]
    return (
        [Cat(byte, byte[-1].replicate(ACTIVATION_BITS - 8)) for byte in narrow],
        [pair[:ACTIVATION_BITS] for pair in wide],
    )
