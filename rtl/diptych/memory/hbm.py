# SPDX-License-Identifier: BSD-2-Clause
"""High-bandwidth memory behind AXI4, with set latency and bandwidth."""

from typing import Any

from amaranth.hdl import Assert, Cat, ClockSignal, Instance, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.config import DEFAULTS

from .axi import BEAT_BYTES, Channels, ReadAddress, WriteAddress, WriteData
from .banked import BankedMemory

__all__ = ["LINE_BITS", "STORAGE", "Hbm"]

OUTSTANDING = 16
LINE_BITS = 26
"""Bits of a beat's number where the cells are outside."""
STORAGE = "hbm_storage"
"""Module with the cells where they are outside."""
RESPONSES = 128
"""Written bursts whose response is pending."""


class _Outside(wiring.Component):
    """The cells outside, with the ports and the timing of :class:`.BankedMemory`."""

    def __init__(self) -> None:
        super().__init__(
            {
                "write_enable": In(BEAT_BYTES),
                "write_address": In(LINE_BITS),
                "write_data": In(8 * BEAT_BYTES),
                "read_enable_0": In(1),
                "read_address_0": In(LINE_BITS),
                "read_data_0": Out(8 * BEAT_BYTES),
            }
        )

    def elaborate(self, platform: Any) -> Instance:
        me: Any = self
        return Instance(
            STORAGE,
            i_clk=ClockSignal(),
            i_write_enable=me.write_enable,
            i_write_address=me.write_address,
            i_write_data=me.write_data,
            i_read_enable=me.read_enable_0,
            i_read_address=me.read_address_0,
            o_read_data=me.read_data_0,
        )


class Hbm(wiring.Component):
    """Beats of 64 bytes; the first of a burst comes ``latency`` cycles after its address.

    A write is complete when its last beat was taken; its response follows ``latency`` cycles later.
    Up to 16 bursts of each kind are queued, and 128 responses. On average, at most
    ``bytes_per_cycle`` are transferred, reads and writes together; in a conflict they take turns.
    The host fills the memory through a port of its own, which costs no bandwidth and has priority.

    Parameters
    ----------
    size : :class:`int` or None
        Bytes, a power of two. None: the cells are outside, in a module :data:`STORAGE` of up to
        4 GiB that whoever simulates the HBM provides.
    latency : :class:`int`
        Cycles, at least 4.
    bytes_per_cycle : :class:`int`
        1 to 64.

    Members
    -------
    axi : :py:`In(Channels())`
        Port of the panel.
    host : :py:`In(stream.Signature(...))`
        Writes a beat at a ``line`` (address / 64).
    count_hbm_read, count_hbm_write : :py:`Out(32)`
        Bytes of the beats that the panel read and wrote.
    """

    axi: Any
    host: stream.Interface
    count_hbm_read: Signal
    count_hbm_write: Signal

    def __init__(
        self,
        *,
        size: int | None,
        latency: int = DEFAULTS.hbm_latency,
        bytes_per_cycle: int = DEFAULTS.hbm_bytes_per_cycle,
    ) -> None:
        if latency < 4:
            raise ValueError(f"Latency must be at least 4 cycles, not {latency!r}")
        if bytes_per_cycle not in range(1, BEAT_BYTES + 1):
            raise ValueError(f"Bandwidth must be 1 to 64 bytes per cycle, not {bytes_per_cycle!r}")
        self.size = size
        self.latency = latency
        self.bytes_per_cycle = bytes_per_cycle
        self.lines = 1 << LINE_BITS if size is None else size // BEAT_BYTES
        self.host_shape = data.StructLayout({"data": 8 * BEAT_BYTES, "line": ceil_log2(self.lines)})
        super().__init__(
            {
                "axi": In(Channels()),
                "host": In(stream.Signature(self.host_shape)),
                "count_hbm_read": Out(32),
                "count_hbm_write": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        storage: Any = (
            _Outside()
            if self.size is None
            else BankedMemory(width=8 * BEAT_BYTES, depth=self.lines, parts=BEAT_BYTES)
        )
        m.submodules.storage = storage
        now = Signal(32)
        m.d.sync += now.eq(now + 1)
        request = ReadAddress().size
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=request + 32, depth=OUTSTANDING)
        out_width = 8 * BEAT_BYTES + 3
        beats: Any = fifo.SyncFIFO(width=out_width, depth=4)
        m.submodules.beats = beats
        # From address to beat: a cycle in each queue, and one in the storage.
        due = now + (self.latency - 2)
        m.d.comb += [
            self.axi.ar.ready.eq(bursts.w_rdy),
            bursts.w_en.eq(self.axi.ar.valid),
            bursts.w_data.eq(Cat(self.axi.ar.payload.as_value(), due[:32])),
        ]
        burst = Signal(ReadAddress())
        done = Signal(8)
        age = Signal(32)
        tokens = Signal(range(2 * BEAT_BYTES + 1), init=BEAT_BYTES)
        reads, last = Signal(), Signal()
        can_read, can_write, writes = Signal(), Signal(), Signal()
        turn = Signal()
        on_its_way = Signal()
        tag = Signal(3)
        m.d.comb += [
            burst.eq(bursts.r_data[:request]),
            age.eq(now - bursts.r_data[request:]),
            can_read.eq(bursts.r_rdy & ~age[31] & (tokens >= BEAT_BYTES) & (beats.level < 2)),
            reads.eq(can_read & ~(can_write & turn)),
            writes.eq(can_write & ~reads),
            last.eq(done == burst.len),
            storage.read_enable_0.eq(reads),
            storage.read_address_0.eq((burst.addr >> ceil_log2(BEAT_BYTES)) + done),
            bursts.r_en.eq(reads & last),
            beats.w_en.eq(on_its_way),
            beats.w_data.eq(Cat(storage.read_data_0, tag)),
            self.axi.r.valid.eq(beats.r_rdy),
            self.axi.r.payload.eq(beats.r_data),
            beats.r_en.eq(self.axi.r.ready),
        ]
        self._add_writes(m, storage, now, can_write, writes, tokens >= BEAT_BYTES)
        with m.If(reads | writes):
            m.d.sync += turn.eq(reads)
        left = Mux(reads | writes, tokens - BEAT_BYTES, tokens)
        m.d.sync += [
            on_its_way.eq(reads),
            tag.eq(Cat(last, burst.id)),
            tokens.eq(
                Mux(left + self.bytes_per_cycle > 2 * BEAT_BYTES, left, left + self.bytes_per_cycle)
            ),
        ]
        with m.If(reads):
            m.d.sync += [
                done.eq(Mux(last, 0, done + 1)),
                self.count_hbm_read.eq(self.count_hbm_read + BEAT_BYTES),
            ]
        return m

    def _add_writes(
        self,
        m: Module,
        storage: Any,
        now: Signal,
        can_write: Signal,
        writes: Signal,
        granted: Value,
    ) -> None:
        """Write beats of bursts in order, and the host's."""
        m.submodules.write_bursts = bursts = fifo.SyncFIFO(
            width=WriteAddress().size, depth=OUTSTANDING
        )
        m.submodules.write_beats = beats = fifo.SyncFIFO(width=WriteData().size, depth=4)
        m.submodules.responses = responses = fifo.SyncFIFO(width=32 + 2, depth=RESPONSES)
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        burst = Signal(WriteAddress())
        beat = Signal(WriteData())
        done = Signal(8)
        final = Signal()
        age = Signal(32)
        due = now + (self.latency - 1)
        host = self.host
        m.d.comb += [
            aw.ready.eq(bursts.w_rdy),
            bursts.w_en.eq(aw.valid),
            bursts.w_data.eq(aw.payload),
            w.ready.eq(beats.w_rdy),
            beats.w_en.eq(w.valid),
            beats.w_data.eq(w.payload),
            burst.eq(bursts.r_data),
            beat.eq(beats.r_data),
            final.eq(done == burst.len),
            can_write.eq(bursts.r_rdy & beats.r_rdy & granted & responses.w_rdy & ~host.valid),
            beats.r_en.eq(writes),
            bursts.r_en.eq(writes & final),
            responses.w_en.eq(writes & final),
            responses.w_data.eq(Cat(burst.id, due[:32])),
            age.eq(now - responses.r_data[2:]),
            b.valid.eq(responses.r_rdy & ~age[31]),
            b.payload.id.eq(responses.r_data[:2]),
            responses.r_en.eq(b.valid & b.ready),
            host.ready.eq(1),
        ]
        with m.If(host.valid):
            m.d.comb += [
                storage.write_enable.eq(-1),
                storage.write_address.eq(host.payload.line),
                storage.write_data.eq(host.payload.data),
            ]
        with m.Else():
            m.d.comb += [
                storage.write_enable.eq(Mux(writes, beat.strb, 0)),
                storage.write_address.eq((burst.addr >> ceil_log2(BEAT_BYTES)) + done),
                storage.write_data.eq(beat.data),
            ]
        with m.If(writes):
            m.d.sync += [
                done.eq(Mux(final, 0, done + 1)),
                self.count_hbm_write.eq(self.count_hbm_write + BEAT_BYTES),
            ]
            m.d.sync += Assert(beat.last == final, "W must have last with its final beat only")
