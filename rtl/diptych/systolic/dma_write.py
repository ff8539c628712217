# SPDX-License-Identifier: BSD-2-Clause
"""The part of the store engine that writes to HBM."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES, WriteChannels, WriteData

from .dma_bursts import BurstSplitter
from .isa import STORE, StoreOp
from .memory_ports import ReadPort
from .vector_control import VectorSizes

__all__ = ["WriteEngine"]

BEAT_BITS = ceil_log2(BEAT_BYTES)
DEPTH = 5
"""Beats that wait to be sent."""
COMMANDS = 2
BURSTS = 8
"""Requested bursts whose beats are not all read."""
ANSWERS = 8
"""Commands whose responses are pending."""


class _Chunk(data.StructLayout):
    """Control of a chunk while it is read."""

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
                "biased": 1,
            }
        )


class WriteEngine(wiring.Component):
    """Runs the STORE commands HBM, SUMS and BIASED_SUMS, in order and overlapped.

    Up to 8 bursts are requested while beats of earlier ones are read, also for the next command,
    and no command waits for the responses to the one before. A line or an entry is read per
    cycle, up to 64 bytes of it make a chunk; a beat leaves when it is full, or its row ends: one
    a cycle, however short the bursts. HBM addresses and pitches are multiples of 64, scratchpad
    addresses and pitches of a line; ``bytes`` and ``rows`` are at least 1.

    Members
    -------
    i : :py:`In(stream.Signature(STORE))`
        Commands.
    done : :py:`Out(1)`
        For one cycle per command, in order: the response of its last burst has arrived.
    scratchpad, accumulators, biases : :py:`Out(ReadPort)`
        Reads of the memories; biases are always ready.
    axi : :py:`Out(WriteChannels())`
        Port of the HBM.
    """

    i: stream.Interface
    done: Signal
    scratchpad: Any
    accumulators: Any
    biases: Any
    axi: Any

    def __init__(self, sizes: VectorSizes, *, line_shape: Any, sums_shape: Any) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "i": In(stream.Signature(STORE)),
                "done": Out(1),
                "scratchpad": Out(ReadPort(line_shape, sizes.scratchpad // sizes.line)),
                "accumulators": Out(ReadPort(sums_shape, sizes.accumulators)),
                "biases": Out(ReadPort(sums_shape, sizes.biases)),
                "axi": Out(WriteChannels()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.commands = commands = fifo.SyncFIFO(width=STORE.size, depth=COMMANDS)
        m.submodules.lengths = lengths = fifo.SyncFIFO(width=8, depth=BURSTS)
        m.submodules.beats = beats = fifo.SyncFIFO(width=WriteData().size, depth=DEPTH)
        self._add_addresses(m, commands, lengths)
        came = self._add_reads(m, commands, lengths, beats)
        self._add_beats(m, came, beats)
        return m

    def _add_addresses(self, m: Module, commands: Any, lengths: Any) -> None:
        """Request bursts, and signal ``done`` when all responses to a command have arrived."""
        aw, b = self.axi.aw, self.axi.b
        # Up to three commands may have been taken whose last burst was not requested.
        m.submodules.marks = marks = fifo.SyncFIFO(width=16, depth=ANSWERS + 3)
        m.submodules.bursts = bursts = BurstSplitter()
        ask = Signal(STORE)
        asking = Signal()
        row = Signal(16)
        address = Signal(32)  # of the row in HBM
        asked, answered = Signal(16), Signal(16)
        takes, asks = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~asking & commands.w_rdy & (marks.w_level < ANSWERS)),
            takes.eq(self.i.valid & self.i.ready),
            commands.w_en.eq(takes),
            commands.w_data.eq(self.i.payload),
            bursts.i.valid.eq(asking),
            bursts.i.p.at.eq(address),
            bursts.i.p.beats.eq((ask.bytes[: 16 + BEAT_BITS] + BEAT_BYTES - 1) >> BEAT_BITS),
            bursts.i.p.last.eq(row == ask.rows - 1),
            aw.valid.eq(bursts.o.valid & lengths.w_rdy),
            aw.payload.addr.eq(bursts.o.p.at),
            aw.payload.len.eq(bursts.o.p.length),
            bursts.o.ready.eq(aw.ready & lengths.w_rdy),
            asks.eq(aw.valid & aw.ready),
            lengths.w_en.eq(asks),
            lengths.w_data.eq(bursts.o.p.length),
            marks.w_en.eq(asks & bursts.o.p.last),
            marks.w_data.eq(asked + 1),
            b.ready.eq(1),
            self.done.eq(marks.r_rdy & (marks.r_data == answered)),
            marks.r_en.eq(self.done),
        ]
        m.d.sync += [asked.eq(asked + asks), answered.eq(answered + (b.valid & b.ready))]
        with m.If(asking & bursts.i.ready):
            m.d.sync += [row.eq(row + 1), address.eq(address + ask.pitch)]
            with m.If(bursts.i.p.last):
                m.d.sync += asking.eq(0)
        with m.If(takes):
            m.d.sync += [
                ask.eq(self.i.payload),
                asking.eq(1),
                row.eq(0),
                address.eq(self.i.payload.hbm),
            ]

    def _add_reads(self, m: Module, commands: Any, lengths: Any, beats: Any) -> Any:
        """Read chunks of bursts that were asked for; return what is known of the last one."""
        line, entry = self.sizes.line, 4 * self.sizes.lanes
        command, new = Signal(STORE), Signal(STORE)
        busy, sums, biased = Signal(), Signal(), Signal()
        row = Signal(16)
        source = Signal(32)  # of the row: a byte address, or an entry
        here = Signal(32)
        bias = Signal(32)
        offset = Signal(32)
        sent = Signal(8)  # beats of the burst

        chunk, unit = Signal(_Chunk()), Signal(BEAT_BITS + 1)
        following = Signal(32)
        ends_row, reads, granted = Signal(), Signal(), Signal()
        m.d.comb += [
            biased.eq(command.head.op == StoreOp.BIASED_SUMS.value),
            sums.eq((command.head.op == StoreOp.SUMS.value) | biased),
            unit.eq(Mux(sums, min(entry, BEAT_BYTES), min(line, BEAT_BYTES))),
            following.eq(offset + unit),
            ends_row.eq(following >= command.bytes),
            # Two chunks may be on their way.
            reads.eq(busy & lengths.r_rdy & (beats.level <= DEPTH - 3)),
            self.scratchpad.en.eq(reads & ~sums),
            self.scratchpad.address.eq((source + offset) >> ceil_log2(line)),
            self.accumulators.en.eq(reads & sums),
            self.accumulators.address.eq(here),
            self.biases.en.eq(reads & biased),
            self.biases.address.eq(bias),
            granted.eq(Mux(sums, self.accumulators.ready, self.scratchpad.ready)),
            chunk.valid.eq(reads & granted),
            chunk.place.eq(offset),
            chunk.within.eq(Mux(sums, offset[: ceil_log2(entry)], offset[: ceil_log2(line)])),
            chunk.ends_beat.eq(ends_row | (following[:BEAT_BITS] == 0)),
            chunk.bytes.eq(Mux(ends_row, (command.bytes - 1)[:BEAT_BITS] + 1, Const(BEAT_BYTES))),
            chunk.last.eq(sent == lengths.r_data),
            chunk.sums.eq(sums),
            chunk.biased.eq(biased),
            new.eq(commands.r_data),
            commands.r_en.eq(~busy),
            lengths.r_en.eq(chunk.valid & chunk.ends_beat & chunk.last),
        ]
        with m.If(chunk.valid):
            m.d.sync += offset.eq(following)
            with m.If(following[: ceil_log2(entry)] == 0):
                m.d.sync += [here.eq(here + command.source2), bias.eq(bias + 1)]
            with m.If(chunk.ends_beat):
                m.d.sync += sent.eq(Mux(chunk.last, 0, sent + 1))
            with m.If(ends_row):
                step = Mux(sums, 1, command.source_pitch)
                m.d.sync += [
                    row.eq(row + 1),
                    offset.eq(0),
                    source.eq(source + step),
                    here.eq(source + step),
                    bias.eq(command.first),
                ]
                with m.If(row == command.rows - 1):
                    m.d.sync += busy.eq(0)
        with m.If(~busy & commands.r_rdy):
            m.d.sync += [
                busy.eq(1),
                command.eq(new),
                row.eq(0),
                offset.eq(0),
                source.eq(new.source),
                here.eq(new.source),
                bias.eq(new.first),
            ]
        came = Signal(_Chunk())
        m.d.sync += came.eq(chunk)
        return came

    def _add_beats(self, m: Module, came: Any, beats: Any) -> None:
        """Make beats of the chunks that came, and send them."""
        w = self.axi.w
        gathered = Signal(8 * BEAT_BYTES, reset_less=True)
        beat = Signal(8 * BEAT_BYTES)
        m.d.comb += beat.eq(gathered)
        line, entry = self.sizes.line, 4 * self.sizes.lanes
        # Memories show their answers late in a cycle, so biases are added in the next one.
        now = Signal(_Chunk())
        m.d.sync += now.eq(came)
        for is_sums, port, width in ((0, self.scratchpad, line), (1, self.accumulators, entry)):
            bits = 8 * min(width, BEAT_BYTES)
            value = Signal(bits, name=f"value_{is_sums}", reset_less=True)
            m.d.sync += value.eq(_chunk_of(port, came, bits))
            total = Signal(bits, name=f"total_{is_sums}")
            m.d.comb += total.eq(value)
            if is_sums:
                biases = Signal(bits, reset_less=True)
                m.d.sync += biases.eq(Mux(came.biased, _chunk_of(self.biases, came, bits), 0))
                for n in range(0, bits, 32):
                    m.d.comb += total[n : n + 32].eq(value[n : n + 32] + biases[n : n + 32])
            with m.If(now.sums == is_sums):
                for n in range(8 * BEAT_BYTES // bits):
                    with m.If(now.place >> ceil_log2(bits // 8) == n):
                        m.d.comb += beat[bits * n : bits * (n + 1)].eq(total)
        strobe = (Const(1, BEAT_BYTES + 1) << now.bytes) - 1
        with m.If(now.valid):
            m.d.sync += gathered.eq(beat)
        m.d.comb += [
            beats.w_en.eq(now.valid & now.ends_beat),
            beats.w_data.eq(Cat(beat, strobe[:BEAT_BYTES], now.last)),
            w.valid.eq(beats.r_rdy),
            w.payload.eq(beats.r_data),
            beats.r_en.eq(w.ready),
        ]


def _chunk_of(port: Any, came: Any, bits: int) -> Value:
    """Return the part of an answer that makes the chunk."""
    value = Value.cast(port.data)
    if len(value) > bits:
        value = value.word_select(came.within[BEAT_BITS:], bits)
    return value
