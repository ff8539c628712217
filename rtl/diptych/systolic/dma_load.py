# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine that fills the panel's memories from HBM."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.scale import ScaleWord
from diptych.memory.axi import BEAT_BYTES, MAX_BEATS, PAGE_BYTES, ReadChannels

from .dma_pieces import Pieces, PieceWriter
from .isa import LOAD, TABLE_WORDS, Target
from .memory_ports import WritePort
from .vector_control import VectorSizes

__all__ = ["LOAD_CAUSES", "LoadEngine"]

LOAD_CAUSES = ("writing", "waiting_hbm", "waiting_memory", "idle")

COMMANDS = 8
"""Commands that wait for their beats."""
PAGE_BEATS = PAGE_BYTES // BEAT_BYTES


class LoadEngine(wiring.Component):
    """Runs LOAD commands in order, several bursts outstanding.

    The bursts of a command are asked for while the beats of the one before still come, so that
    HBM's latency is paid once for commands that follow each other; only a gather waits for its
    token numbers first.

    HBM addresses (but of DENSE) and pitches are multiples of 64, targets multiples of a line;
    ``rows`` is at least 1, ``bytes`` a multiple of an entry but for the scratchpad. A gather has
    at most 16 rows, whose token numbers (below 2**16; of a pick, below 1024) stand in one beat. A
    pick takes 2 cycles a row. An entry is written per cycle, or per beat if it is wider; to the
    scratchpad, a beat per cycle as :class:`.PieceWriter`.

    Members
    -------
    i : :py:`In(stream.Signature(LOAD))`
        Commands.
    done : :py:`Out(1)`
        In the cycle after the last write of a command.
    axi : :py:`Out(ReadChannels())`
        To HBM; ``id`` is 0.
    scratchpad, parameters, vectors, dynamic, biases : :py:`Out(WritePort)`
        To the memories.
    count_writing, count_waiting_hbm, count_waiting_memory, count_idle : :py:`Out(32)`
        Cycles, each counted once: an entry is written; a command waits for HBM (or for its own
        first beat); it waits for the memory that it fills; there is none.
    """

    i: stream.Interface
    done: Signal
    axi: Any
    scratchpad: Any
    parameters: Any
    vectors: Any
    dynamic: Any
    biases: Any

    def __init__(self, sizes: VectorSizes, *, shapes: tuple[Any, Any, Any]) -> None:
        self.sizes = sizes
        word, half, sums = shapes
        beat = data.ArrayLayout(8, BEAT_BYTES)
        super().__init__(
            {
                "i": In(stream.Signature(LOAD)),
                "done": Out(1),
                "axi": Out(ReadChannels()),
                "scratchpad": Out(WritePort(beat, sizes.scratchpad // BEAT_BYTES)),
                "parameters": Out(WritePort(word, sizes.parameters)),
                "vectors": Out(WritePort(half, sizes.vectors)),
                "dynamic": Out(WritePort(ScaleWord, sizes.rows)),
                "biases": Out(WritePort(sums, sizes.biases)),
                **{f"count_{cause}": Out(32) for cause in LOAD_CAUSES},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sizes = self.sizes
        command = Signal(LOAD)  # whose beats come
        busy = Signal()
        target = Signal(Target)
        gathers, picks = Signal(), Signal()
        ids = Signal(8 * BEAT_BYTES)
        has_ids = Signal()
        # The next command asks while the beats of this one still come.
        ask = Signal(LOAD)
        ask_target = Signal(Target)
        ask_gathers, ask_picks, ask_dense = Signal(), Signal(), Signal()
        beat_bits = ceil_log2(BEAT_BYTES)
        ask_has_ids, asked_ids, asking = Signal(), Signal(), Signal()
        m.submodules.commands = commands = fifo.SyncFIFO(width=LOAD.size, depth=COMMANDS)

        def tell(op: Any, gather: Signal, pick: Signal, layout: Any) -> None:
            m.d.comb += [
                op.eq(layout.head.op),
                pick.eq(op == Target.PICK_DYNAMIC),
                gather.eq((op == Target.GATHER) | (op == Target.GATHER_DYNAMIC) | pick),
            ]

        tell(target, gathers, picks, command)
        tell(ask_target, ask_gathers, ask_picks, ask)
        m.d.comb += [
            ask_dense.eq(ask_target == Target.DENSE),
            self.i.ready.eq(~asking & commands.w_rdy),
            commands.w_en.eq(self.i.valid & self.i.ready),
            commands.w_data.eq(self.i.payload),
        ]

        # --- addresses ---
        ask_row = Signal(16)
        ask_base = Signal(32)
        ask_beat = Signal(16)
        dense_bytes = Signal(32)
        ask_size = Signal(32)
        beats_in_row = Signal(16)
        address = Signal(32)
        left = Signal(16)
        length = Signal(8)
        to_page = Signal(8)
        identity = Signal(32)
        m.d.comb += [
            dense_bytes.eq(Mux(ask.total == 0, ask.bytes, ask.total)),
            ask_size.eq(Mux(ask_dense, dense_bytes + ask.hbm[:beat_bits], ask.bytes)),
            beats_in_row.eq((ask_size + BEAT_BYTES - 1) >> beat_bits),
            identity.eq(ids.word_select(ask_row[:4], 32)),
            address.eq(
                Mux(ask_gathers, ask.hbm + identity[:16] * ask.pitch[:16], ask_base)
                + (ask_beat << beat_bits)
            ),
            left.eq(beats_in_row - ask_beat),
            to_page.eq(PAGE_BEATS - address[6:12]),
            length.eq(Mux(left < MAX_BEATS, left, MAX_BEATS)),
        ]
        beats = Signal(8)
        m.d.comb += beats.eq(Mux(length < to_page, length, to_page))
        ar = self.axi.ar
        asked, asked_beats = Signal(32), Signal(8)
        m.d.comb += ar.payload.eq(Cat(asked, (asked_beats - 1)[:8]))
        with m.If(asking & ask_gathers & ~ask_has_ids):
            m.d.comb += [ar.valid.eq(~asked_ids), asked.eq(ask.ids), asked_beats.eq(1)]
            with m.If(ar.valid & ar.ready):
                m.d.sync += [asked_ids.eq(1), asking.eq(~ask_picks)]
        with m.Elif(asking):
            m.d.comb += [ar.valid.eq(1), asked.eq(address), asked_beats.eq(beats)]
            with m.If(ar.ready):
                m.d.sync += ask_beat.eq(ask_beat + beats)
                with m.If(left == beats):
                    m.d.sync += [
                        ask_beat.eq(0),
                        ask_row.eq(ask_row + 1),
                        ask_base.eq(ask_base + ask.pitch),
                    ]
                    with m.If(ask_dense | (ask_row == ask.rows - 1)):
                        m.d.sync += asking.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                ask.eq(self.i.payload),
                asking.eq(1),
                asked_ids.eq(0),
                ask_has_ids.eq(0),
                ask_row.eq(0),
                ask_base.eq(Cat(Const(0, beat_bits), self.i.payload.hbm[beat_bits:])),
                ask_beat.eq(0),
            ]

        # --- beats: an entry per cycle ---
        row = Signal(16)
        bytes_left = Signal(32)
        at = Signal(32)
        row_at = Signal(32)
        part = Signal(6)
        # Entries wider than a beat wait until their last beat is there.
        most = max(1, 4 * sizes.lanes // BEAT_BYTES)
        gathered = Signal(range(max(2, most)))
        earlier = [
            Signal(8 * BEAT_BYTES, name=f"earlier_{n}", reset_less=True) for n in range(most - 1)
        ]
        complete = Signal()
        r = self.axi.r
        beat = r.payload.data
        valid = Signal()
        taken = Signal()
        ready = Signal()
        entry_bytes = Signal(10)
        advance = Signal(8)
        takes_ids, receives = Signal(), Signal()
        lanes, line = sizes.lanes, sizes.line
        m.d.comb += [
            # Beats behind the last row are those of the next command.
            receives.eq(busy & ~self.done),
            takes_ids.eq(busy & gathers & ~has_ids),
            valid.eq(r.valid & receives & ~takes_ids),
        ]
        with m.If(takes_ids & r.valid):
            m.d.sync += [ids.eq(beat), has_ids.eq(1)]
            # A gather asks for its rows now; behind a pick, it is a later command that asks.
            with m.If(~picks):
                m.d.sync += ask_has_ids.eq(1)

        m.submodules.table = table = memory.Memory(shape=ScaleWord, depth=TABLE_WORDS, init=[])
        to_table, from_table = table.write_port(), table.read_port()
        picked = Signal()  # the table shows what the row needs
        m.d.comb += [
            to_table.addr.eq(at),
            from_table.en.eq(1),
            from_table.addr.eq(ids.word_select(row[:4], 32)),
        ]

        def writes(port: Any, size: int, unit: int) -> None:
            """Write the entry of ``size`` bytes at ``part`` of the beat."""
            values = Value.cast(port.data)
            per_beat = max(1, BEAT_BYTES // size)
            m.d.comb += [port.address.eq(at), entry_bytes.eq(size), advance.eq(unit)]
            if size > BEAT_BYTES:
                wide = size // BEAT_BYTES
                source: Any = Cat(
                    *(Mux(gathered > n, earlier[n], beat) for n in range(wide - 1)), beat
                )
                m.d.comb += [
                    complete.eq(
                        (gathered == wide - 1)
                        | (bytes_left <= Cat(Const(0, ceil_log2(BEAT_BYTES)), gathered + 1))
                    ),
                    port.en.eq(valid & complete),
                    ready.eq(~complete | port.ready),
                    taken.eq(valid & ready),
                ]
            else:
                source = beat.word_select(part, 8 * size)
                end = (part == per_beat - 1) | (bytes_left <= size)
                m.d.comb += [
                    complete.eq(1),
                    port.en.eq(valid),
                    ready.eq(port.ready & end),
                    taken.eq(valid & port.ready),
                ]
            count = len(port.mask)
            width = len(values) // count
            step = 8 * size // count
            for n in range(count):
                m.d.comb += values[width * n : width * (n + 1)].eq(
                    source[step * n : step * n + width]
                )

        in_lines = (Target.SCRATCHPAD, Target.GATHER, Target.DENSE)
        to_lines = Signal()
        pieces: Any = PieceWriter(line=line, size=sizes.scratchpad)
        m.submodules.pieces = pieces
        wiring.connect(m, pieces.port, wiring.flipped(self.scratchpad))
        m.d.comb += pieces.beats.payload.eq(beat)
        with m.Switch(target):
            with m.Case(*in_lines):
                m.d.comb += [
                    to_lines.eq(1),
                    pieces.beats.valid.eq(valid),
                    ready.eq(pieces.beats.ready),
                ]
            with m.Case(Target.PARAMETERS):
                writes(self.parameters, 4 * lanes, 1)
                m.d.comb += self.parameters.mask.eq(2**lanes - 1)
            with m.Case(Target.BIASES):
                writes(self.biases, 4 * lanes, 1)
                m.d.comb += self.biases.mask.eq(2**lanes - 1)
            with m.Case(Target.VECTOR):
                writes(self.vectors, 2 * lanes, 1)
                m.d.comb += self.vectors.mask.eq(2**lanes - 1)
            with m.Case(Target.TABLE):
                m.d.comb += [
                    entry_bytes.eq(4),
                    advance.eq(1),
                    complete.eq(1),
                    Value.cast(to_table.data).eq(beat.word_select(part, 32)),
                    to_table.en.eq(valid),
                    taken.eq(valid),
                    ready.eq((part == BEAT_BYTES // 4 - 1) | (bytes_left <= 4)),
                ]
            with m.Case(Target.PICK_DYNAMIC):
                m.d.comb += [
                    self.dynamic.address.eq(at),
                    self.dynamic.data.eq(from_table.data),
                    self.dynamic.mask.eq(1),
                    self.dynamic.en.eq(picked),
                ]
                m.d.sync += picked.eq(
                    busy & has_ids & ~(picked & self.dynamic.ready) & (row != command.rows)
                )
                with m.If(picked & self.dynamic.ready):
                    m.d.sync += [row.eq(row + 1), at.eq(at + command.target_pitch)]
            with m.Default():
                writes(self.dynamic, 4, 1)
                m.d.comb += self.dynamic.mask.eq(1)
        early = Signal()  # the first beat of the next command comes as it begins
        m.d.comb += r.ready.eq(takes_ids | (receives & ready) | early)
        m.d.comb += self.done.eq(busy & Mux(to_lines, pieces.done, row == command.rows))
        with m.If(taken):
            m.d.sync += part.eq(Mux(ready, 0, part + 1))
            with m.If(~complete):
                m.d.sync += gathered.eq(gathered + 1)
                for n, kept in enumerate(earlier):
                    with m.If(gathered == n):
                        m.d.sync += kept.eq(beat)
            with m.Else():
                m.d.sync += [
                    gathered.eq(0),
                    at.eq(at + advance),
                    bytes_left.eq(bytes_left - entry_bytes),
                ]
                with m.If(bytes_left <= entry_bytes):
                    m.d.sync += [
                        row.eq(row + 1),
                        bytes_left.eq(command.bytes),
                        at.eq(row_at + command.target_pitch),
                        row_at.eq(row_at + command.target_pitch),
                    ]
        with m.If(self.done):
            m.d.sync += busy.eq(0)
        new = Signal(LOAD)
        described = Signal(Pieces())
        begins = Signal()
        m.d.comb += [
            new.eq(commands.r_data),
            commands.r_en.eq(~busy | self.done),
            begins.eq(commands.r_en & commands.r_rdy),
            described.bytes.eq(new.bytes),
            described.rows.eq(new.rows),
            described.target.eq(new.target),
            described.target_pitch.eq(new.target_pitch),
            described.skip.eq(new.hbm),
            described.dense.eq(new.head.op == Target.DENSE.value),
            pieces.pieces.eq(described),
            pieces.start.eq(begins & (Cat(new.head.op == op.value for op in in_lines)).any()),
            early.eq(pieces.start & (new.head.op != Target.GATHER.value)),
        ]
        with m.If(early):
            m.d.comb += pieces.beats.valid.eq(r.valid)
        with m.If(begins):
            m.d.sync += [
                command.eq(new),
                busy.eq(1),
                has_ids.eq(0),
                row.eq(0),
                part.eq(0),
                gathered.eq(0),
                bytes_left.eq(new.bytes),
                at.eq(new.target),
                row_at.eq(new.target),
            ]
        offers = Signal()
        m.d.comb += offers.eq(Mux(to_lines, pieces.offers, valid | picked))
        wrote = (
            taken
            | (picked & self.dynamic.ready)
            | (to_lines & pieces.offers & self.scratchpad.ready)
        )
        blamed = m.If
        for cause, holds in zip(LOAD_CAUSES, (wrote, busy & ~offers, busy, Const(1)), strict=True):
            counter = getattr(self, f"count_{cause}")
            with blamed(holds):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif
        return m
