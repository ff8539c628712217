# SPDX-License-Identifier: BSD-2-Clause
"""High-bandwidth memory behind AXI4, with set latency and bandwidth."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from .axi import BEAT_BYTES, ReadAddress, ReadChannels
from .banked import BankedMemory

__all__ = ["Hbm"]

OUTSTANDING = 8


class Hbm(wiring.Component):
    """Beats of 64 bytes; the first of a burst comes ``latency`` cycles after its address.

    Up to 8 bursts are outstanding. Over time, at most ``bytes_per_cycle`` leave. The host fills
    the memory through a port of its own, as a driver does, which costs no bandwidth.

    Parameters
    ----------
    size : :class:`int`
        Bytes; a power of two.
    latency : :class:`int`
        Cycles, at least 4.
    bytes_per_cycle : :class:`int`
        1 to 64.

    Members
    -------
    axi : :py:`In(ReadChannels())`
        The panel's port.
    host : :py:`In(stream.Signature(...))`
        A beat and its ``line`` number (address / 64).
    count_hbm_read : :py:`Out(32)`
        Bytes read by the panel.
    """

    axi: Any
    host: stream.Interface
    count_hbm_read: Signal

    def __init__(self, *, size: int, latency: int = 100, bytes_per_cycle: int = 64) -> None:
        if latency < 4:
            raise ValueError(f"Latency must be at least 4 cycles, not {latency!r}")
        if bytes_per_cycle not in range(1, BEAT_BYTES + 1):
            raise ValueError(f"Bandwidth must be 1 to 64 bytes per cycle, not {bytes_per_cycle!r}")
        self.size = size
        self.latency = latency
        self.bytes_per_cycle = bytes_per_cycle
        self.lines = size // BEAT_BYTES
        self.host_shape = data.StructLayout({"data": 8 * BEAT_BYTES, "line": ceil_log2(self.lines)})
        super().__init__(
            {
                "axi": In(ReadChannels()),
                "host": In(stream.Signature(self.host_shape)),
                "count_hbm_read": wiring.Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        storage: Any = BankedMemory(width=8 * BEAT_BYTES, depth=self.lines)
        m.submodules.storage = storage
        m.d.comb += [
            self.host.ready.eq(1),
            storage.write_enable.eq(self.host.valid),
            storage.write_address.eq(self.host.payload.line),
            storage.write_data.eq(self.host.payload.data),
        ]
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
        on_its_way = Signal()
        tag = Signal(3)
        m.d.comb += [
            burst.eq(bursts.r_data[:request]),
            age.eq(now - bursts.r_data[request:]),
            reads.eq(bursts.r_rdy & ~age[31] & (tokens >= BEAT_BYTES) & (beats.level < 2)),
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
        left = Mux(reads, tokens - BEAT_BYTES, tokens)
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
