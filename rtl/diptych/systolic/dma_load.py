# SPDX-License-Identifier: BSD-2-Clause
"""The DMA engine that fills the panel's memories from HBM."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.scale import ScaleWord
from diptych.config import ACTIVATION_BITS
from diptych.memory.axi import BEAT_BYTES, ReadChannels

from .dma_bursts import BurstSplitter
from .dma_pieces import Pieces, PieceWriter
from .isa import LOAD, TABLE_WORDS, Target
from .memory_ports import WritePort
from .vector_control import VectorSizes

__all__ = ["LOAD_CAUSES", "LoadEngine"]

LOAD_CAUSES = ("writing", "waiting_hbm", "waiting_memory", "idle")

COMMANDS = 8
"""Commands whose beats are pending."""
BEAT_BITS = ceil_log2(BEAT_BYTES)
DENSE = (Target.DENSE, Target.DENSE_WIDE)
"""Targets whose pieces follow each other in HBM."""
IN_LINES = (Target.SCRATCHPAD, Target.GATHER, *DENSE)
"""Targets that are lines of the scratchpad."""


class _Signals:
    """Blocks of a :class:`LoadEngine`, and the signals between its parts."""

    def __init__(self, sizes: VectorSizes) -> None:
        # The command whose beats arrive.
        self.command = Signal(LOAD)
        self.busy = Signal()
        self.target = Signal(Target)
        gathers, picks = Signal(), Signal()
        self.gathers, self.picks = gathers, picks
        self.ids = Signal(8 * BEAT_BYTES)
        self.has_ids = Signal()
        # The command whose bursts are requested, while the beats of an earlier one arrive.
        self.ask = Signal(LOAD)
        self.ask_gathers, self.ask_picks = Signal(), Signal()
        self.ask_dense = Signal()
        self.ask_has_ids, self.asked_ids, self.asked_all = Signal(), Signal(), Signal()
        self.asking = Signal()
        self.commands = fifo.SyncFIFO(width=LOAD.size, depth=COMMANDS)
        # Position in the command: entries, and beats of an entry.
        self.row = Signal(16)
        self.all_rows = Signal()  # are written
        self.bytes_left = Signal(32)
        self.at = Signal(32)
        self.row_at = Signal(32)
        self.part = Signal(6)
        # Entries wider than a beat wait until their last beat is there.
        most = max(1, 4 * sizes.lanes // BEAT_BYTES)
        self.gathered = Signal(range(max(2, most)))
        self.earlier = [
            Signal(8 * BEAT_BYTES, name=f"earlier_{n}", reset_less=True) for n in range(most - 1)
        ]
        self.complete = Signal()
        self.valid = Signal()
        self.taken = Signal()
        self.ready = Signal()
        self.entry_bytes = Signal(10)
        self.advance = Signal(8)
        takes_ids, receives = Signal(), Signal()
        self.takes_ids, self.receives = takes_ids, receives
        self.table = memory.Memory(shape=ScaleWord, depth=TABLE_WORDS, init=[])
        to_table, from_table = self.table.write_port(), self.table.read_port()
        self.to_table, self.from_table = to_table, from_table
        self.picked = Signal()  # the table's output is the entry of the row
        # Targets that are lines of the scratchpad.
        self.to_lines = Signal()
        self.pieces: Any = PieceWriter(line=sizes.line, size=sizes.scratchpad)
        # The first beat of the next command arrives as it starts.
        self.early = Signal()


class LoadEngine(wiring.Component):
    """Executes LOAD commands in order, with several bursts outstanding.

    The bursts of a command are requested while the beats of the previous one still arrive, so that
    the latency of the HBM is hidden for consecutive commands; only a gather waits for its token
    numbers first.

    HBM addresses (but of dense pieces) and pitches are multiples of 64, targets multiples of a line;
    ``rows`` is at least 1, ``bytes`` a multiple of an entry but for the scratchpad. A gather has
    at most 16 rows, whose token numbers (below 2**16; of a pick, below 1024) are in one beat. A
    pick takes 2 cycles a row. An entry is written per cycle, or per beat if it is wider; to the
    scratchpad, a beat per cycle as :class:`.PieceWriter`.

    Members
    -------
    i : :py:`In(stream.Signature(LOAD))`
        Commands.
    done : :py:`Out(1)`
        In the cycle after the last write of a command.
    axi : :py:`Out(ReadChannels())`
        Port of the HBM; ``id`` is 0.
    scratchpad, parameters, vectors, dynamic, biases : :py:`Out(WritePort)`
        Writes of the memories.
    wide : :py:`Out(1)`
        What goes to the scratchpad has two bytes an element in HBM.
    count_writing, count_waiting_hbm, count_waiting_memory, count_idle : :py:`Out(32)`
        Cycles, each counted once: an entry is written; a command waits for HBM (or for its own
        first beat); it waits for the target memory; there is no command.
    """

    i: stream.Interface
    done: Signal
    axi: Any
    scratchpad: Any
    parameters: Any
    vectors: Any
    dynamic: Any
    biases: Any
    wide: Signal

    def __init__(self, sizes: VectorSizes, *, shapes: tuple[Any, Any]) -> None:
        self.sizes = sizes
        word, sums = shapes
        beat = data.ArrayLayout(ACTIVATION_BITS, BEAT_BYTES)
        super().__init__(
            {
                "i": In(stream.Signature(LOAD)),
                "done": Out(1),
                "axi": Out(ReadChannels()),
                "scratchpad": Out(WritePort(beat, sizes.scratchpad // BEAT_BYTES)),
                "parameters": Out(WritePort(word, sizes.parameters)),
                "vectors": Out(WritePort(sums, sizes.vectors)),
                "dynamic": Out(WritePort(ScaleWord, sizes.rows)),
                "biases": Out(WritePort(sums, sizes.biases)),
                "wide": Out(1),
                **{f"count_{cause}": Out(32) for cause in LOAD_CAUSES},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals(self.sizes)
        self._accept(m, s)
        self._request(m, s)
        self._receive(m, s)
        self._write_target(m, s)
        self._advance(m, s)
        self._start(m, s)
        self._count_cycles(m, s)
        return m

    def _accept(self, m: Module, s: _Signals) -> None:
        """Accept a command when it can request its beats."""
        ask_target = Signal(Target)
        m.submodules.commands = s.commands

        self._decode(m, s.target, s.gathers, s.picks, s.command)
        self._decode(m, ask_target, s.ask_gathers, s.ask_picks, s.ask)
        m.d.comb += [
            s.ask_dense.eq(Cat(ask_target == target for target in DENSE).any()),
            self.i.ready.eq(~s.asking & s.commands.w_rdy),
            s.commands.w_en.eq(self.i.valid & self.i.ready),
            s.commands.w_data.eq(self.i.payload),
        ]

    def _request(self, m: Module, s: _Signals) -> None:
        """Find the rows of a command, after the token numbers of a gather; one per cycle."""
        ask_row = Signal(16)
        ask_base = Signal(32)
        row_bytes = Signal(16 + BEAT_BITS)
        row_beats = Signal(16)
        m.d.comb += [
            row_bytes.eq(Mux(s.ask_dense & s.ask.total.any(), s.ask.total, s.ask.bytes)),
            row_beats.eq(
                (row_bytes + (BEAT_BYTES - 1 + Mux(s.ask_dense, s.ask.hbm[:BEAT_BITS], 0)))
                >> BEAT_BITS
            ),
        ]
        # A gather's token number is selected, then multiplied, then added.
        identity, distance = Signal(16, reset_less=True), Signal(32, reset_less=True)
        selected, multiplied = Signal(), Signal()
        selected_last, multiplied_last = Signal(), Signal()
        selects, multiplies = Signal(), Signal()
        last_row = Signal()
        m.submodules.bursts = bursts = BurstSplitter()
        row, takes_row = bursts.i, Signal()
        wants_ids = Signal()
        m.d.comb += [
            last_row.eq(s.ask_dense | (ask_row == s.ask.rows - 1)),
            wants_ids.eq(s.ask_gathers & ~s.ask_has_ids),
            multiplies.eq(~multiplied | takes_row),
            selects.eq(~selected | multiplies),
            row.p.at.eq(ask_base),
            row.p.beats.eq(row_beats),
            row.p.last.eq(last_row),
            row.valid.eq(s.asking),
            takes_row.eq(row.valid & row.ready),
            self.axi.ar.payload.addr.eq(bursts.o.p.at),
            self.axi.ar.payload.len.eq(bursts.o.p.length),
            self.axi.ar.valid.eq(bursts.o.valid),
            bursts.o.ready.eq(self.axi.ar.ready),
        ]
        with m.If(wants_ids):
            m.d.comb += [
                row.p.at.eq(s.ask.ids),
                row.p.beats.eq(1),
                row.p.last.eq(s.ask_picks),
                row.valid.eq(s.asking & ~s.asked_ids),
            ]
        with m.Elif(s.ask_gathers):
            m.d.comb += [
                row.p.at.eq(s.ask.hbm + distance),
                row.p.last.eq(multiplied_last),
                row.valid.eq(multiplied),
            ]
        with m.If(multiplies):
            m.d.sync += [
                distance.eq(identity * s.ask.pitch[:16]),
                multiplied.eq(selected),
                multiplied_last.eq(selected_last),
            ]
        with m.If(selects):
            m.d.sync += [
                identity.eq(s.ids.word_select(ask_row[:4], 32)),
                selected.eq(s.asking & s.ask_gathers & s.ask_has_ids & ~s.asked_all),
                selected_last.eq(last_row),
            ]
        with m.If(Mux(s.ask_gathers, selects & s.ask_has_ids, takes_row)):
            m.d.sync += [ask_row.eq(ask_row + 1), ask_base.eq(ask_base + s.ask.pitch)]
            with m.If(last_row):
                m.d.sync += s.asked_all.eq(1)
        with m.If(takes_row):
            m.d.sync += s.asked_ids.eq(1)
            with m.If(row.p.last):
                m.d.sync += s.asking.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                s.ask.eq(self.i.payload),
                s.asking.eq(1),
                s.asked_ids.eq(0),
                s.asked_all.eq(0),
                s.ask_has_ids.eq(0),
                ask_row.eq(0),
                ask_base.eq(Cat(Const(0, BEAT_BITS), self.i.payload.hbm[BEAT_BITS:])),
            ]

    def _receive(self, m: Module, s: _Signals) -> None:
        """Receive the token numbers of a gather, and the beats of rows."""
        r = self.axi.r
        beat = self.axi.r.payload.data
        m.d.comb += [
            # Beats after the last row belong to the next command.
            s.receives.eq(s.busy & ~self.done),
            s.takes_ids.eq(s.busy & s.gathers & ~s.has_ids),
            s.valid.eq(r.valid & s.receives & ~s.takes_ids),
        ]
        with m.If(s.takes_ids & r.valid):
            m.d.sync += [s.ids.eq(beat), s.has_ids.eq(1)]
            # A gather requests its rows now; after a pick, a later command is in ``ask``.
            with m.If(~s.picks):
                m.d.sync += s.ask_has_ids.eq(1)

        m.submodules.table = s.table
        m.d.comb += [
            s.to_table.addr.eq(s.at),
            s.from_table.en.eq(1),
            s.from_table.addr.eq(s.ids.word_select(s.row[:4], 32)),
        ]

    def _write_target(self, m: Module, s: _Signals) -> None:
        """Write what is received to the memory of the command, an entry per cycle."""
        beat = self.axi.r.payload.data
        m.submodules.pieces = s.pieces
        wiring.connect(m, s.pieces.port, wiring.flipped(self.scratchpad))
        m.d.comb += [s.pieces.beats.payload.eq(beat), self.wide.eq(s.pieces.wide)]
        with m.Switch(s.target):
            with m.Case(*IN_LINES):
                m.d.comb += [
                    s.to_lines.eq(1),
                    s.pieces.beats.valid.eq(s.valid),
                    s.ready.eq(s.pieces.beats.ready),
                ]
            with m.Case(Target.PARAMETERS):
                self._write_entry(m, s, self.parameters, 4 * self.sizes.lanes, 1)
                m.d.comb += self.parameters.mask.eq(2**self.sizes.lanes - 1)
            with m.Case(Target.BIASES):
                self._write_entry(m, s, self.biases, 4 * self.sizes.lanes, 1)
                m.d.comb += self.biases.mask.eq(2**self.sizes.lanes - 1)
            with m.Case(Target.VECTOR):
                self._write_entry(m, s, self.vectors, 2 * self.sizes.lanes, 1)
                m.d.comb += self.vectors.mask.eq(2**self.sizes.lanes - 1)
            with m.Case(Target.TABLE):
                m.d.comb += [
                    s.entry_bytes.eq(4),
                    s.advance.eq(1),
                    s.complete.eq(1),
                    Value.cast(s.to_table.data).eq(beat.word_select(s.part, 32)),
                    s.to_table.en.eq(s.valid),
                    s.taken.eq(s.valid),
                    s.ready.eq((s.part == BEAT_BYTES // 4 - 1) | (s.bytes_left <= 4)),
                ]
            with m.Case(Target.PICK_DYNAMIC):
                m.d.comb += [
                    self.dynamic.address.eq(s.at),
                    self.dynamic.data.eq(s.from_table.data),
                    self.dynamic.mask.eq(1),
                    self.dynamic.en.eq(s.picked),
                ]
                m.d.sync += s.picked.eq(
                    s.busy & s.has_ids & ~(s.picked & self.dynamic.ready) & ~s.all_rows
                )
                with m.If(s.picked & self.dynamic.ready):
                    m.d.sync += [
                        s.row.eq(s.row + 1),
                        s.all_rows.eq(s.row + 1 == s.command.rows),
                        s.at.eq(s.at + s.command.target_pitch),
                    ]
            with m.Default():
                self._write_entry(m, s, self.dynamic, 4, 1)
                m.d.comb += self.dynamic.mask.eq(1)

    def _advance(self, m: Module, s: _Signals) -> None:
        """Advance to the next entry and row."""
        r = self.axi.r
        beat = self.axi.r.payload.data
        m.d.comb += r.ready.eq(s.takes_ids | (s.receives & s.ready) | s.early)
        m.d.comb += self.done.eq(s.busy & Mux(s.to_lines, s.pieces.done, s.all_rows))
        with m.If(s.taken):
            m.d.sync += s.part.eq(Mux(s.ready, 0, s.part + 1))
            with m.If(~s.complete):
                m.d.sync += s.gathered.eq(s.gathered + 1)
                for n, kept in enumerate(s.earlier):
                    with m.If(s.gathered == n):
                        m.d.sync += kept.eq(beat)
            with m.Else():
                m.d.sync += [
                    s.gathered.eq(0),
                    s.at.eq(s.at + s.advance),
                    s.bytes_left.eq(s.bytes_left - s.entry_bytes),
                ]
                with m.If(s.bytes_left <= s.entry_bytes):
                    m.d.sync += [
                        s.row.eq(s.row + 1),
                        s.all_rows.eq(s.row + 1 == s.command.rows),
                        s.bytes_left.eq(s.command.bytes),
                        s.at.eq(s.row_at + s.command.target_pitch),
                        s.row_at.eq(s.row_at + s.command.target_pitch),
                    ]
        with m.If(self.done):
            m.d.sync += s.busy.eq(0)

    def _start(self, m: Module, s: _Signals) -> None:
        """Start the next command in the cycle after the one before is done."""
        r = self.axi.r
        new = Signal(LOAD)
        described = Signal(Pieces())
        # On its own: nothing in a structure depends on another part of it.
        wide = Signal()
        begins = Signal()
        m.d.comb += [
            new.eq(s.commands.r_data),
            s.commands.r_en.eq(~s.busy | self.done),
            begins.eq(s.commands.r_en & s.commands.r_rdy),
            described.bytes.eq(new.bytes),
            described.rows.eq(new.rows),
            wide.eq(new.head.op == Target.DENSE_WIDE.value),
            described.wide.eq(wide),
            described.target.eq(new.target << wide),
            described.target_pitch.eq(new.target_pitch << wide),
            described.skip.eq(new.hbm),
            described.dense.eq(Cat(new.head.op == op.value for op in DENSE).any()),
            s.pieces.pieces.eq(described),
            s.pieces.start.eq(begins & (Cat(new.head.op == op.value for op in IN_LINES)).any()),
            s.early.eq(s.pieces.start & (new.head.op != Target.GATHER.value)),
        ]
        with m.If(s.early):
            m.d.comb += s.pieces.beats.valid.eq(r.valid)
        with m.If(begins):
            m.d.sync += [
                s.command.eq(new),
                s.busy.eq(1),
                s.has_ids.eq(0),
                s.row.eq(0),
                s.all_rows.eq(0),
                s.part.eq(0),
                s.gathered.eq(0),
                s.bytes_left.eq(new.bytes),
                s.at.eq(new.target),
                s.row_at.eq(new.target),
            ]

    def _count_cycles(self, m: Module, s: _Signals) -> None:
        """Count each cycle for the first cause that holds."""
        offers = Signal()
        # A beat that waits while a pick writes is a later command's.
        m.d.comb += offers.eq(Mux(s.to_lines, s.pieces.offers, Mux(s.picks, s.picked, s.valid)))
        wrote = (
            s.taken
            | (s.picked & self.dynamic.ready)
            | (s.to_lines & s.pieces.offers & self.scratchpad.ready)
        )
        blamed = m.If
        for cause, holds in zip(
            LOAD_CAUSES, (wrote, s.busy & ~offers, s.busy, Const(1)), strict=True
        ):
            counter = getattr(self, f"count_{cause}")
            with blamed(holds):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif

    @staticmethod
    def _decode(m: Module, op: Any, gather: Signal, pick: Signal, layout: Any) -> None:
        """Decode the target of a command, and whether it gathers rows or picks from the table."""
        m.d.comb += [
            op.eq(layout.head.op),
            pick.eq(op == Target.PICK_DYNAMIC),
            gather.eq((op == Target.GATHER) | (op == Target.GATHER_DYNAMIC) | pick),
        ]

    def _write_entry(self, m: Module, s: _Signals, port: Any, size: int, unit: int) -> None:
        """Write the entry of ``size`` bytes at ``part`` of the beat."""
        beat = self.axi.r.payload.data
        values = Value.cast(port.data)
        per_beat = max(1, BEAT_BYTES // size)
        m.d.comb += [port.address.eq(s.at), s.entry_bytes.eq(size), s.advance.eq(unit)]
        if size > BEAT_BYTES:
            wide = size // BEAT_BYTES
            source: Any = Cat(
                *(Mux(s.gathered > n, s.earlier[n], beat) for n in range(wide - 1)), beat
            )
            m.d.comb += [
                s.complete.eq(
                    (s.gathered == wide - 1)
                    | (s.bytes_left <= Cat(Const(0, BEAT_BITS), s.gathered + 1))
                ),
                port.en.eq(s.valid & s.complete),
                s.ready.eq(~s.complete | port.ready),
                s.taken.eq(s.valid & s.ready),
            ]
        else:
            source = beat.word_select(s.part, 8 * size)
            end = (s.part == per_beat - 1) | (s.bytes_left <= size)
            m.d.comb += [
                s.complete.eq(1),
                port.en.eq(s.valid),
                s.ready.eq(port.ready & end),
                s.taken.eq(s.valid & port.ready),
            ]
        count = len(port.mask)
        width = len(values) // count
        step = 8 * size // count
        for n in range(count):
            element = source[step * n : step * n + min(step, width)].as_signed()
            m.d.comb += values[width * n : width * (n + 1)].eq(element)
