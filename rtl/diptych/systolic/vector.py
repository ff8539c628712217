# SPDX-License-Identifier: BSD-2-Clause
"""The vector unit: everything of a layer that is not a matrix product."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.functions import Function
from diptych.arith.rope import Rotate
from diptych.arith.scale import UNITY, ScaleWord
from diptych.precompiled import Precompiled

from .isa import VECTOR, VectorOp
from .rows import Purpose, Rows
from .vector_control import Beat, Sequencer, VectorSizes
from .vector_lanes import LATENCY, Kind, Lane, Source
from .vector_ports import Fetch, ReadPort, WritePort
from .vector_reduce import Reducer

__all__ = ["VectorUnit"]

_KINDS = {
    VectorOp.BYTES: Kind.REQUANTIZED,
    VectorOp.ROTATE: Kind.ROTATED,
    VectorOp.ADD: Kind.ADDED,
    VectorOp.GATE: Kind.GATED,
    VectorOp.EMBED: Kind.REQUANTIZED,
    VectorOp.QUANTIZE: Kind.REQUANTIZED,
    VectorOp.TOP: Kind.SUM,
    VectorOp.EXPONENTIAL: Kind.POWER,
    VectorOp.ARGMAX: Kind.REQUANTIZED,
}
_BITS = {
    VectorOp.BYTES: 8,
    VectorOp.ROTATE: 16,
    VectorOp.ADD: 32,
    VectorOp.GATE: 16,
    VectorOp.EMBED: 16,
    VectorOp.QUANTIZE: 8,
}
_LAST = max(LATENCY.values())


class VectorUnit(wiring.Component):
    """Runs VECTOR commands, one at a time and in order.

    A command is a pass over rows and, inside them, column tiles: one tile of ``lanes`` elements
    per cycle, or one per two cycles for ROTATE (two planes are written) and GATE (two sums are
    read). The first tile is requested 2 cycles after the command was taken. After the last one was
    granted the pipeline drains: ``done`` comes 6 cycles later for TOP and the ops on rows, 7 for
    BYTES and QUANTIZE, 9 for ROTATE, ADD, EMBED and ARGMAX, 14 for EXPONENTIAL, and 15 for GATE.
    A memory that does not grant a read delays what follows; a write that is not taken stops the
    pipeline. The ops on rows take 2 (HIDDEN_SCALES) or 3 cycles a row.

    What the text of :class:`.VectorOp` leaves open: statistics and the sum of EXPONENTIAL are over
    the lanes in ``range(first_lane, end_lane)``, while TOP and ARGMAX look at all lanes. Masked
    lanes of EXPONENTIAL are written as 0. ``total`` cannot be read back.

    Parameters
    ----------
    sizes : :class:`VectorSizes`
        Sizes of the unit and of the memories around it.

    Members
    -------
    i : :py:`In(stream.Signature(VECTOR))`
        Commands.
    done : :py:`Out(1)`
        In the last cycle of each command: all it wrote has been taken.
    accumulators, scratchpad_read, vectors_read, parameters : :py:`Out(ReadPort)`
        Reads.
    scratchpad_write, vectors_write : :py:`Out(WritePort)`
        Writes.
    load_dynamic : :py:`In(WritePort)`
        Writes ``dynamic`` of a row.
    token : :py:`Out(32)`
        The last ARGMAX.
    token_valid : :py:`Out(1)`
        Whether there was one since reset.
    """

    i: stream.Interface
    done: Signal
    accumulators: Any
    scratchpad_read: Any
    vectors_read: Any
    parameters: Any
    scratchpad_write: Any
    vectors_write: Any
    load_dynamic: Any
    token: Signal
    token_valid: Signal

    def __init__(self, sizes: VectorSizes | None = None) -> None:
        self.sizes = sizes = sizes or VectorSizes()
        self._lane = Lane()
        self._rotate = Rotate()
        lines = sizes.scratchpad // sizes.line
        self._sum = data.ArrayLayout(signed(32), sizes.lanes)
        self._half = data.ArrayLayout(signed(16), sizes.lanes)
        self._word = data.ArrayLayout(ScaleWord, sizes.lanes)
        self._line = data.ArrayLayout(signed(8), sizes.line)
        super().__init__(
            {
                "i": In(stream.Signature(VECTOR)),
                "done": Out(1),
                "accumulators": Out(ReadPort(self._sum, sizes.accumulators)),
                "scratchpad_read": Out(ReadPort(self._line, lines)),
                "vectors_read": Out(ReadPort(self._half, sizes.vectors)),
                "parameters": Out(ReadPort(self._word, sizes.parameters)),
                "scratchpad_write": Out(WritePort(self._line, lines)),
                "vectors_write": Out(WritePort(self._half, sizes.vectors)),
                "load_dynamic": In(WritePort(ScaleWord, sizes.rows)),
                "token": Out(32),
                "token_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sizes = self.sizes
        lanes = sizes.lanes
        m.submodules.sequencer = sequencer = Sequencer(sizes)
        m.submodules.rows = rows = Rows(depth=sizes.rows)
        m.submodules.reducer = reducer = Reducer(lanes=lanes)

        # --- what the command asks for -----------------------------------------------------------
        op = sequencer.op
        kind = Signal(Kind)
        bits = Signal(6)
        m.d.comb += bits.eq(sequencer.bits)
        with m.Switch(op):
            for which, value in _KINDS.items():
                with m.Case(which.value):
                    m.d.comb += kind.eq(value)
                    if which in _BITS:
                        m.d.comb += bits.eq(_BITS[which])

        def is_op(*ops: VectorOp) -> Signal:
            signal = Signal(name="is_" + "_or_".join(op.name.lower() for op in ops))
            m.d.comb += signal.eq(op.matches(*(op.value for op in ops)))
            return signal

        rows_only = is_op(VectorOp.NORM_SCALES, VectorOp.HIDDEN_SCALES)
        rotates = is_op(VectorOp.ROTATE)
        gates = is_op(VectorOp.GATE)
        embeds = is_op(VectorOp.EMBED)
        quantizes = is_op(VectorOp.QUANTIZE)
        exponential = is_op(VectorOp.EXPONENTIAL)
        tops = is_op(VectorOp.TOP)
        argmax = is_op(VectorOp.ARGMAX)
        squares = is_op(VectorOp.ADD, VectorOp.EMBED)
        to_vector = is_op(VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED)
        to_scratchpad = is_op(
            VectorOp.BYTES, VectorOp.ROTATE, VectorOp.QUANTIZE, VectorOp.EXPONENTIAL
        )
        searches = Signal()
        reduces = Signal()
        m.d.comb += [
            searches.eq(tops | argmax),
            reduces.eq(to_vector | searches | exponential),
        ]
        ones = Const(2**lanes - 1, lanes)
        in_range = Signal(lanes)
        m.d.comb += in_range.eq(
            (ones << sequencer.flags.first_lane)[:lanes] & ~(ones << sequencer.flags.end_lane)
        )

        # --- the pipeline's controls -------------------------------------------------------------
        enable = Signal()
        step = Signal()
        valid = Signal(_LAST)  # bit n: stage n + 1
        beats = [Signal(Beat(sizes), name=f"beat_{n + 1}", reset_less=True) for n in range(_LAST)]
        travels = Signal(_LAST)  # what leaves after a stage is not in the next one any more
        with m.If(enable):
            m.d.sync += [valid.eq(Cat(step, valid & travels)), beats[0].eq(sequencer.beat)]
            for before, after in pairwise(beats):
                m.d.sync += after.eq(before)

        leaving = Signal(Beat(sizes))
        leaves = Signal()
        with m.Switch(kind):
            for each in Kind:
                stage = LATENCY[each] - 1
                with m.Case(each):
                    m.d.comb += [
                        leaving.eq(beats[stage]),
                        leaves.eq(valid[stage]),
                        travels.eq(Mux(rows_only, 0, 2**stage - 1)),
                    ]
        finished = Signal(Beat(sizes), reset_less=True)
        finished_valid = Signal()
        reduced = [Signal(Beat(sizes), name=f"reduced_{n}", reset_less=True) for n in range(2)]
        reduced_valid = Signal(2)
        with m.If(enable):
            # The first phase of a gate yields nothing yet, and the ops on rows nothing here.
            m.d.sync += [
                finished.eq(leaving),
                finished_valid.eq(leaves & ~rows_only & ~(gates & (leaving.phase == 0))),
                reduced[0].eq(finished),
                reduced[1].eq(reduced[0]),
                reduced_valid.eq(Cat(finished_valid & reduces, reduced_valid)),
            ]
        live = Signal(lanes)
        m.d.comb += live.eq(~(ones << leaving.count))

        # --- reads -------------------------------------------------------------------------------
        fetches: list[Fetch] = []

        def fetch(name: str, port: Any, shape: Any, depth: int, want: Value, at: Value) -> Any:
            m.submodules[f"fetch_{name}"] = block = Fetch(shape, depth)
            wiring.connect(m, block.port, wiring.flipped(port))
            m.d.comb += [
                block.enable.eq(enable),
                block.want.eq(sequencer.valid & want),
                block.address.eq(at),
                block.step.eq(step),
            ]
            fetches.append(block)
            return block.data

        reads = sequencer.reads
        lane_bits, line_bits = ceil_log2(lanes), ceil_log2(sizes.line)
        sums = fetch(
            "accumulator",
            self.accumulators,
            self._sum,
            sizes.accumulators,
            reads.accumulator,
            sequencer.accumulator,
        )
        line = fetch(
            "scratchpad",
            self.scratchpad_read,
            self._line,
            sizes.scratchpad // sizes.line,
            reads.scratchpad,
            sequencer.scratchpad[line_bits:],
        )
        halves = fetch(
            "vector", self.vectors_read, self._half, sizes.vectors, reads.vector, sequencer.vector
        )
        words = fetch(
            "parameter",
            self.parameters,
            self._word,
            sizes.parameters,
            reads.parameter,
            sequencer.parameter,
        )
        granted = Signal(len(fetches))
        m.d.comb += [
            granted.eq(Cat(block.granted for block in fetches)),
            step.eq(sequencer.valid & enable & granted.all()),
            sequencer.step.eq(step),
        ]
        piece = Signal(8 * lanes)
        if line_bits > lane_bits:
            chosen = Signal(line_bits - lane_bits, reset_less=True)
            with m.If(step):
                m.d.sync += chosen.eq(sequencer.scratchpad[lane_bits:line_bits])
            m.d.comb += piece.eq(Value.cast(line).word_select(chosen, 8 * lanes))
        else:
            m.d.comb += piece.eq(Value.cast(line))

        # --- rows --------------------------------------------------------------------------------
        dynamic = Signal(ScaleWord, reset_less=True)
        load = Signal()
        starts_at_zero = Signal()
        reduces_row = Signal()
        ends_row = Signal()
        asks_total = Signal()
        phase = beats[0].phase
        m.d.comb += [
            # The second phase of a rotation works on what the first one read.
            load.eq(valid[0] & ~(rotates & phase[0])),
            rows.read.eq(step),
            rows.row.eq(sequencer.beat.row),
            rows.read_statistics.eq(Mux(rows_only, step, enable & reduced_valid[0])),
            rows.statistics_row.eq(Mux(rows_only, sequencer.beat.row, reduced[0].row)),
            starts_at_zero.eq(sequencer.flags.restart | exponential),
            reducer.enable.eq(enable),
            reducer.valid.eq(reduced_valid[1]),
            reducer.first.eq(reduced[1].first),
            reducer.tile.eq(reduced[1].tile),
            reducer.start_best.eq(
                Mux(searches, Const(-(2**31), 32), Mux(starts_at_zero, Const(0, 32), rows.largest))
            ),
            reducer.start_total.eq(Mux(starts_at_zero, Const(0, 32), rows.squares)),
            reduces_row.eq(enable & reduced_valid[1]),
            ends_row.eq(reduces_row & reduced[1].last),
            rows.write_row.eq(reduced[1].row),
            rows.best.eq(reducer.best),
            rows.total.eq(reducer.total),
            rows.write_largest.eq(ends_row & to_vector),
            rows.write_squares.eq(ends_row & squares),
            rows.write_top.eq(ends_row & tops),
            asks_total.eq(ends_row & exponential),
            rows.ask.eq(asks_total | (enable & valid[0] & rows_only)),
            rows.ask_row.eq(Mux(exponential, reduced[1].row, beats[0].row)),
            rows.load_en.eq(self.load_dynamic.en),
            rows.load_row.eq(self.load_dynamic.address),
            rows.load_word.eq(self.load_dynamic.data),
            self.load_dynamic.ready.eq(rows.load_ready),
        ]
        with m.If(exponential):
            m.d.comb += [
                rows.value.eq(reducer.total),
                rows.function.eq(Function.RECIPROCAL),
                rows.purpose.eq(Purpose.DYNAMIC),
            ]
        with m.Else():
            m.d.comb += rows.value.eq(Mux(phase[1], rows.squares + sequencer.epsilon, rows.largest))
            with m.Switch(phase):
                with m.Case(0):
                    m.d.comb += [
                        rows.function.eq(Function.RECIPROCAL),
                        rows.purpose.eq(Purpose.INVERSE),
                    ]
                with m.Case(1):
                    m.d.comb += rows.function.eq(Function.TO_SCALE)
                    with m.If(op == VectorOp.NORM_SCALES.value):
                        m.d.comb += rows.purpose.eq(Purpose.FACTOR)
                    with m.Else():
                        m.d.comb += rows.purpose.eq(Purpose.DYNAMIC)
                with m.Default():
                    m.d.comb += [
                        rows.function.eq(Function.RSQRT),
                        rows.purpose.eq(Purpose.PRODUCT),
                    ]
        with m.If(enable & load):
            with m.If(quantizes):
                m.d.sync += dynamic.eq(rows.inverse)
            with m.Elif(embeds | (sequencer.flags.dynamic & ~argmax)):
                m.d.sync += dynamic.eq(rows.dynamic)
            with m.Else():
                m.d.sync += dynamic.eq(ScaleWord.const(UNITY))
        with m.If(ends_row & argmax):
            m.d.sync += [self.token.eq(reducer.where), self.token_valid.eq(1)]

        # --- lanes -------------------------------------------------------------------------------
        source = Signal(Source)
        m.d.comb += source.eq(Mux(embeds, Source.BYTE, Mux(quantizes, Source.HALF, Source.SUM)))
        scaled = LATENCY[Kind.REQUANTIZED] - 1
        keep = Signal()
        written = Signal(lanes)
        m.d.comb += [
            keep.eq(gates & valid[scaled] & (beats[scaled].phase == 0)),
            written.eq(Mux(searches, ones, in_range)),
        ]
        units = []
        for n in range(lanes):
            m.submodules[f"lane_{n}"] = lane = Precompiled(self._lane, "vector_lane")
            units.append(lane)
            m.d.comb += [
                lane.enable.eq(enable),
                lane.load.eq(load),
                lane.source.eq(source),
                lane.total.eq(sums[n]),
                lane.byte.eq(piece[8 * n : 8 * n + 8]),
                lane.half.eq(halves[n]),
                lane.word.eq(words[n]),
                lane.top.eq(rows.top),
                lane.dynamic.eq(dynamic),
                lane.bits.eq(bits),
                lane.scale.eq(sequencer.scale),
                lane.kind.eq(kind),
                lane.fill.eq(searches),
                lane.square_shift.eq(sequencer.flags.square_shift),
                lane.statistics.eq(to_vector),
                lane.keep.eq(keep),
                lane.live.eq(live[n]),
                lane.plane.eq(leaving.phase[0]),
                lane.written.eq(written[n]),
                reducer.scores[n].eq(lane.score),
                reducer.addends[n].eq(lane.addend),
            ]
        for n in range(0, lanes, 2):
            m.submodules[f"rotate_{n}"] = rotate = Precompiled(self._rotate, "vector_rotate")
            a, b = units[n], units[n + 1]
            m.d.comb += [
                rotate.enable.eq(enable & rotates),
                rotate.a.eq(a.scaled),
                rotate.b.eq(b.scaled),
                rotate.cosine.eq(a.factor),
                rotate.sine.eq(b.factor),
                a.rotated.eq(rotate.rotated_a),
                b.rotated.eq(rotate.rotated_b),
            ]

        # --- writes ------------------------------------------------------------------------------
        pieces = sizes.line // lanes
        target = finished.target
        write, write_vector = self.scratchpad_write, self.vectors_write
        mask = Signal(sizes.line)
        m.d.comb += mask.eq(in_range)
        if pieces > 1:
            m.d.comb += mask.eq(in_range << (target[lane_bits:line_bits] << lane_bits))
        waits_scratchpad = Signal()
        waits_vector = Signal()
        m.d.comb += [
            write.en.eq(finished_valid & to_scratchpad),
            write.address.eq(target[line_bits:]),
            write.mask.eq(mask),
            Value.cast(write.data).eq(Cat(*(unit.result[:8] for unit in units * pieces))),
            write_vector.en.eq(finished_valid & to_vector),
            write_vector.address.eq(target),
            write_vector.mask.eq(in_range),
            Value.cast(write_vector.data).eq(Cat(*(unit.result[:16] for unit in units))),
            waits_scratchpad.eq(write.en & ~write.ready),
            waits_vector.eq(write_vector.en & ~write_vector.ready),
            enable.eq(~(waits_scratchpad | waits_vector)),
        ]
        empty = Signal()
        m.d.comb += [
            empty.eq(enable & ~(valid.any() | finished_valid | reduced_valid.any() | rows.busy)),
            sequencer.empty.eq(empty),
            self.done.eq(sequencer.done),
        ]
        wiring.connect(m, wiring.flipped(self.i), sequencer.i)

        misses = Signal()
        m.d.comb += misses.eq(sequencer.valid & enable)
        self._count(
            m,
            causes={
                # Nothing is requested while a write waits, so that is to blame first.
                "waiting_scratchpad": waits_scratchpad | (misses & ~granted[1]),
                "waiting_vector": waits_vector | (misses & ~granted[2]),
                "waiting_accumulator": misses & ~granted[0],
                "waiting_parameter": misses & ~granted[3],
                "computing": step,
                "starting": sequencer.busy & ~sequencer.draining,
                "draining": sequencer.busy,
                "idle": Const(1),
            },
        )
        return m

    def _count(self, m: Module, *, causes: dict[str, Value]) -> None:
        """Count each cycle for the first cause that holds, and the bytes of each port."""
        blamed = m.If
        for name, cause in causes.items():
            counter = Signal(32, name=f"count_{name}")
            with blamed(cause):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif
        lanes = self.sizes.lanes
        for name, port, amount in (
            ("accumulator_read", self.accumulators, 4 * lanes),
            ("scratchpad_read", self.scratchpad_read, lanes),
            ("scratchpad_write", self.scratchpad_write, lanes),
            ("vector_read", self.vectors_read, 2 * lanes),
            ("vector_write", self.vectors_write, 2 * lanes),
            ("parameter_read", self.parameters, 4 * lanes),
        ):
            counter = Signal(32, name=f"bytes_{name}")
            with m.If(port.en & port.ready):
                m.d.sync += counter.eq(counter + amount)
