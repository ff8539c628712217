# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine that stores: keys, values and the first token to the link, and lines to HBM."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .dma_write import WriteEngine
from .isa import STORE, Handoff, HandoffKind, StoreOp
from .vector_control import VectorSizes

__all__ = ["STORE_CAUSES", "StoreEngine"]

STORE_CAUSES = ("sending", "waiting_link", "writing_hbm", "reading", "idle")


class StoreEngine(wiring.Component):
    """Executes STORE commands in order; writes to HBM overlap, as in :class:`.WriteEngine`.

    To the link, a word per cycle is sent, plus 2 cycles for each line that is read, once all writes
    to HBM are done. ``bytes`` is a multiple of 4; sources are multiples of a line.

    Members
    -------
    i : :py:`In(stream.Signature(STORE))`
        Commands.
    done : :py:`Out(1)`
        In the cycle after the last word of a command was taken, or its last response arrived.
    scratchpad, accumulators, biases : :py:`Out(ReadPort)`
        Reads of the memories.
    axi : :py:`Out(WriteChannels())`
        Port of the HBM.
    writes : :py:`Out(1)`
        Commands that write to HBM are active.
    token : :py:`In(32)`
        Token register of the vector unit.
    o : :py:`Out(stream.Signature(Handoff()))`
        Words to the link.
    count_sending, count_waiting_link, count_writing_hbm, count_reading, count_idle : :py:`Out(32)`
        Cycles, each counted once: a word goes to the link; the link does not take it; a command
        writes to HBM; words are read; there is no command.
    """

    i: stream.Interface
    done: Signal
    scratchpad: Any
    accumulators: Any
    biases: Any
    axi: Any
    writes: Signal
    token: Signal
    o: stream.Interface

    def __init__(self, sizes: VectorSizes, *, line_shape: Any, sums_shape: Any) -> None:
        self.sizes = sizes
        self.writer = WriteEngine(sizes, line_shape=line_shape, sums_shape=sums_shape)
        super().__init__(
            {
                **self.writer.signature.members,
                "writes": Out(1),
                "token": In(32),
                "o": Out(stream.Signature(Handoff())),
                **{f"count_{cause}": Out(32) for cause in STORE_CAUSES},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line_bits = ceil_log2(self.sizes.line)
        command = Signal(STORE)
        op = Signal(StoreOp)
        row = Signal(16)
        plane = Signal()
        offset = Signal(32)
        row_at = Signal(32)
        kept = Signal(8 * self.sizes.line)
        address = Signal(32)
        last_word, last_plane, last_row = Signal(), Signal(), Signal()
        out = self.o.payload
        m.d.comb += [
            op.eq(command.head.op),
            address.eq(Mux(plane, command.source2, command.source) + row_at + offset),
            last_word.eq(offset + 4 >= command.bytes),
            last_plane.eq((op != StoreOp.KEYS) | plane),
            last_row.eq(row == command.rows - 1),
            out.layer.eq(command.layer[:8]),
            out.prompt.eq(command.layer[8:16]),
            out.position.eq(command.first + row),
            out.kind.eq(
                Mux(
                    op == StoreOp.KEYS,
                    HandoffKind.KEYS,
                    Mux(op == StoreOp.VALUES, HandoffKind.VALUES, HandoffKind.TOKEN),
                )
            ),
        ]
        m.submodules.writer = writer = self.writer
        wiring.connect(m, writer.accumulators, wiring.flipped(self.accumulators))
        wiring.connect(m, writer.biases, wiring.flipped(self.biases))
        wiring.connect(m, writer.axi, wiring.flipped(self.axi))
        reads, writes = Signal(), Signal()
        m.d.comb += [
            self.scratchpad.en.eq(reads | writer.scratchpad.en),
            self.scratchpad.address.eq(Mux(reads, address >> line_bits, writer.scratchpad.address)),
            writer.scratchpad.ready.eq(self.scratchpad.ready),
            writer.scratchpad.data.eq(self.scratchpad.data),
            writer.i.payload.eq(self.i.payload),
            writes.eq(
                Cat(
                    self.i.payload.head.op == op.value
                    for op in (StoreOp.HBM, StoreOp.SUMS, StoreOp.BIASED_SUMS)
                ).any()
            ),
        ]
        busy, hbm, links_done = Signal(), Signal(), Signal()
        writing = Signal(4)  # commands of the writer that are not done
        m.d.comb += [hbm.eq(writing != 0), self.done.eq(writer.done | links_done)]
        m.d.comb += self.writes.eq(hbm)
        m.d.sync += writing.eq(writing + (writer.i.valid & writer.i.ready) - writer.done)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += [
                    writer.i.valid.eq(self.i.valid & writes),
                    self.i.ready.eq(Mux(writes, writer.i.ready, ~hbm)),
                ]
                with m.If(self.i.valid & ~writes & ~hbm):
                    m.d.sync += [
                        command.eq(self.i.payload),
                        row.eq(0),
                        plane.eq(0),
                        offset.eq(0),
                        row_at.eq(0),
                    ]
                    m.next = "read"
                    with m.If(self.i.payload.head.op == StoreOp.TOKEN):
                        m.next = "token"
            with m.State("read"):
                m.d.comb += [busy.eq(1), reads.eq(1)]
                with m.If(self.scratchpad.ready):
                    m.next = "keep"
            with m.State("keep"):
                m.d.comb += busy.eq(1)
                m.d.sync += kept.eq(Value.cast(self.scratchpad.data))
                m.next = "send"
            with m.State("send"):
                m.d.comb += [
                    busy.eq(1),
                    self.o.valid.eq(1),
                    out.data.eq(kept.word_select(address[2:line_bits], 32)),
                    out.last.eq(last_word & last_plane),
                ]
                with m.If(self.o.ready):
                    m.d.sync += offset.eq(offset + 4)
                    with m.If((address + 4)[:line_bits] == 0):
                        m.next = "read"
                    with m.If(last_word):
                        m.d.sync += [offset.eq(0), plane.eq(~last_plane)]
                        m.next = "read"
                        with m.If(last_plane):
                            m.d.sync += [row.eq(row + 1), row_at.eq(row_at + command.source_pitch)]
                            with m.If(last_row):
                                m.next = "done"
            with m.State("token"):
                m.d.comb += [
                    busy.eq(1),
                    self.o.valid.eq(1),
                    out.data.eq(self.token),
                    out.last.eq(1),
                ]
                with m.If(self.o.ready):
                    m.next = "done"
            with m.State("done"):
                m.d.comb += [busy.eq(1), links_done.eq(1)]
                m.next = "idle"
        sends, blamed = self.o.valid, m.If
        holding = (sends & self.o.ready, sends, hbm, busy, Const(1))
        for cause, holds in zip(STORE_CAUSES, holding, strict=True):
            counter = getattr(self, f"count_{cause}")
            with blamed(holds):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif
        return m
