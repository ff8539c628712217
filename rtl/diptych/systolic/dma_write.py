# SPDX-License-Identifier: BSD-2-Clause
"""The part of the store engine that writes to HBM."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES, MAX_BEATS, PAGE_BYTES, WriteChannels, WriteData

from .isa import STORE, StoreOp
from .ports import ReadPort
from .vector_control import VectorSizes

__all__ = ["WriteEngine"]

BEAT_BITS = ceil_log2(BEAT_BYTES)
DEPTH = 4


class _Chunk(data.StructLayout):
    """What is known of a chunk while it is read."""

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": 1,
                "place": BEAT_BITS,
                "within": 10,
                "ends_beat": 1,
                "bytes": BEAT_BITS + 1,
                "last": 1,
                "sums": 1,
            }
        )


class WriteEngine(wiring.Component):
    """Runs the STORE commands HBM and SUMS, one at a time.

    A line or an entry is read per cycle, up to 64 bytes of it make a chunk; a beat leaves when it
    is full, or its row ends. A burst costs a cycle more. HBM addresses and pitches are multiples
    of 64, scratchpad addresses and pitches of a line; ``bytes`` and ``rows`` are at least 1.

    Members
    -------
    i : :py:`In(stream.Signature(STORE))`
        Commands.
    done : :py:`Out(1)`
        The response of the last burst of a command has come.
    scratchpad, accumulators : :py:`Out(ReadPort)`
        To the memories.
    axi : :py:`Out(WriteChannels())`
        To HBM.
    """

    i: stream.Interface
    done: Signal
    scratchpad: Any
    accumulators: Any
    axi: Any

    def __init__(self, sizes: VectorSizes, *, line_shape: Any, sums_shape: Any) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "i": In(stream.Signature(STORE)),
                "done": Out(1),
                "scratchpad": Out(ReadPort(line_shape, sizes.scratchpad // sizes.line)),
                "accumulators": Out(ReadPort(sums_shape, sizes.accumulators)),
                "axi": Out(WriteChannels()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line, entry = self.sizes.line, 4 * self.sizes.lanes
        command = Signal(STORE)
        sums = Signal()
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        beats: Any
        m.submodules.beats = beats = fifo.SyncFIFO(width=WriteData().size, depth=DEPTH)

        row = Signal(16)
        source = Signal(32)  # of the row: a byte address, or an entry
        here = Signal(32)
        offset = Signal(32)
        address = Signal(32)  # of the row in HBM
        burst_left = Signal(8)
        outstanding = Signal(16)

        # --- addresses of bursts ---
        at = Signal(32)
        left = Signal(32)
        to_page = Signal(8)
        length = Signal(8)
        m.d.comb += [
            sums.eq(command.head.op == StoreOp.SUMS),
            at.eq(address + offset),
            left.eq((command.bytes - offset + BEAT_BYTES - 1) >> BEAT_BITS),
            to_page.eq(PAGE_BYTES // BEAT_BYTES - at[BEAT_BITS : ceil_log2(PAGE_BYTES)]),
            length.eq(Mux(left < MAX_BEATS, left, MAX_BEATS)),
        ]
        beats_now = Signal(8)
        m.d.comb += [
            beats_now.eq(Mux(length < to_page, length, to_page)),
            aw.payload.addr.eq(at),
            aw.payload.len.eq(beats_now - 1),
            b.ready.eq(1),
        ]
        m.d.sync += outstanding.eq(outstanding + (aw.valid & aw.ready) - (b.valid & b.ready))

        # --- chunks ---
        chunk, unit = Signal(_Chunk()), Signal(BEAT_BITS + 1)
        following = Signal(32)
        ends_row, reads, granted = Signal(), Signal(), Signal()
        size = Mux(sums, min(entry, BEAT_BYTES), min(line, BEAT_BYTES))
        m.d.comb += [
            unit.eq(size),
            following.eq(offset + unit),
            ends_row.eq(following >= command.bytes),
            self.scratchpad.en.eq(reads & ~sums),
            self.scratchpad.address.eq((source + offset) >> ceil_log2(line)),
            self.accumulators.en.eq(reads & sums),
            self.accumulators.address.eq(here),
            granted.eq(Mux(sums, self.accumulators.ready, self.scratchpad.ready)),
            chunk.valid.eq(reads & granted),
            chunk.place.eq(offset),
            chunk.within.eq(Mux(sums, offset[: ceil_log2(entry)], offset[: ceil_log2(line)])),
            chunk.ends_beat.eq(ends_row | (following[:BEAT_BITS] == 0)),
            chunk.bytes.eq(Mux(ends_row, (command.bytes - 1)[:BEAT_BITS] + 1, Const(BEAT_BYTES))),
            chunk.last.eq(burst_left == 1),
            chunk.sums.eq(sums),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    new = self.i.payload
                    m.d.sync += [
                        command.eq(new),
                        row.eq(0),
                        offset.eq(0),
                        source.eq(new.source),
                        here.eq(new.source),
                        address.eq(new.hbm),
                    ]
                    m.next = "ask"
            with m.State("ask"):
                m.d.comb += aw.valid.eq(1)
                m.d.sync += burst_left.eq(beats_now)
                with m.If(aw.ready):
                    m.next = "read"
            with m.State("read"):
                m.d.comb += reads.eq(beats.level <= DEPTH - 2)
                with m.If(chunk.valid):
                    m.d.sync += offset.eq(following)
                    with m.If(following[: ceil_log2(entry)] == 0):
                        m.d.sync += here.eq(here + command.source2)
                    with m.If(chunk.ends_beat):
                        m.d.sync += burst_left.eq(burst_left - 1)
                        with m.If(burst_left == 1):
                            m.next = "ask"
                    with m.If(ends_row):
                        step = Mux(sums, 1, command.source_pitch)
                        m.d.sync += [
                            row.eq(row + 1),
                            offset.eq(0),
                            source.eq(source + step),
                            here.eq(source + step),
                            address.eq(address + command.pitch),
                        ]
                        with m.If(row == command.rows - 1):
                            m.next = "wait"
            # The last burst was asked for before its beats were read.
            with m.State("wait"), m.If(outstanding == 0):
                m.d.comb += self.done.eq(1)
                m.next = "idle"

        # --- a cycle later: the beat ---
        came = Signal(_Chunk())
        m.d.sync += came.eq(chunk)
        gathered = Signal(8 * BEAT_BYTES, reset_less=True)
        beat = Signal(8 * BEAT_BYTES)
        m.d.comb += beat.eq(gathered)
        for is_sums, port, width in ((0, self.scratchpad, line), (1, self.accumulators, entry)):
            bits = 8 * min(width, BEAT_BYTES)
            value = Value.cast(port.data)
            if width > BEAT_BYTES:
                value = value.word_select(came.within[BEAT_BITS:], bits)
            with m.If(came.sums == is_sums):
                for n in range(8 * BEAT_BYTES // bits):
                    with m.If(came.place >> ceil_log2(bits // 8) == n):
                        m.d.comb += beat[bits * n : bits * (n + 1)].eq(value)
        strobe = (Const(1, BEAT_BYTES + 1) << came.bytes) - 1
        with m.If(came.valid):
            m.d.sync += gathered.eq(beat)
        m.d.comb += [
            beats.w_en.eq(came.valid & came.ends_beat),
            beats.w_data.eq(Cat(beat, strobe[:BEAT_BYTES], came.last)),
            w.valid.eq(beats.r_rdy),
            w.payload.eq(beats.r_data),
            beats.r_en.eq(w.ready),
        ]
        return m
