# SPDX-License-Identifier: BSD-2-Clause
"""The vector unit: all operations of a layer except matrix products."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.functions import Function
from diptych.arith.rope import Rotate
from diptych.arith.scale import UNITY, ScaleWord
from diptych.config import ACTIVATION_BITS
from diptych.precompiled import Precompiled

from .isa import EPSILON_BITS, VECTOR
from .memory_ports import OperandFetch, ReadPort, WritePort
from .row_statistics import Purpose, RowStatistics
from .vector_control import VectorBeat, VectorSequencer, VectorSizes
from .vector_decode import decode
from .vector_lanes import LATENCY, Kind, VectorLane
from .vector_parts import VectorParts
from .vector_reduce import Reducer

__all__ = ["VectorUnit"]

_LAST = max(LATENCY.values())


class VectorUnit(wiring.Component):
    """Executes VECTOR commands, one at a time and in order.

    A command is a pass over rows and, inside them, column tiles: one tile of ``lanes`` elements
    per cycle, or one per two cycles for ROTATE (two planes are written) and GATE (two sums are
    read). The first tile is requested 2 cycles after the command was taken. After the last one was
    granted the pipeline drains: ``done`` comes 7 cycles later for REQUANTIZE and QUANTIZE, 10 for
    ROTATE; and, with N = log2(``lanes``) for the reduction, N + 5 for TOP, N + 8 for ARGMAX, N + 14
    for ADD, EMBED and NORM, N + 20 for GATE, and N + 16 for EXPONENTIAL. A read that is not granted delays the beats behind it; a write that is not granted stalls the
    pipeline. A row of NORM takes a cycle more than it has tiles.

    In addition to :class:`.VectorOp`: the statistic and sums are over the lanes in
    ``range(first_lane, end_lane)``, while TOP and ARGMAX cover all lanes. Masked lanes of
    EXPONENTIAL are written as 0.

    Parameters
    ----------
    sizes : :class:`VectorSizes`
        Sizes of the unit and of the memories around it.

    Members
    -------
    i : :py:`In(stream.Signature(VECTOR))`
        Commands.
    done : :py:`Out(1)`
        In the last cycle of each command: all its writes have been granted.
    accumulators, scratchpad_read, vectors_read, parameters, biases : :py:`Out(ReadPort)`
        Reads of the memories.
    scratchpad_write, vectors_write : :py:`Out(WritePort)`
        Writes of the memories.
    load_dynamic : :py:`In(WritePort)`
        Writes ``dynamic`` of a row.
    token : :py:`Out(32)`
        Result of the last ARGMAX.
    token_valid : :py:`Out(1)`
        There was one since reset.
    """

    i: stream.Interface
    done: Signal
    accumulators: Any
    scratchpad_read: Any
    vectors_read: Any
    parameters: Any
    biases: Any
    scratchpad_write: Any
    vectors_write: Any
    load_dynamic: Any
    token: Signal
    token_valid: Signal

    def __init__(self, sizes: VectorSizes | None = None) -> None:
        self.sizes = sizes = sizes or VectorSizes()
        self._lane = VectorLane()
        self._rotate = Rotate()
        lines = sizes.scratchpad // sizes.line
        self._sum = data.ArrayLayout(signed(32), sizes.lanes)
        self._elements = data.ArrayLayout(signed(32), sizes.lanes)
        self._word = data.ArrayLayout(ScaleWord, sizes.lanes)
        self._line = data.ArrayLayout(signed(ACTIVATION_BITS), sizes.line)
        super().__init__(
            {
                "i": In(stream.Signature(VECTOR)),
                "done": Out(1),
                "accumulators": Out(ReadPort(self._sum, sizes.accumulators)),
                "scratchpad_read": Out(ReadPort(self._line, lines)),
                "vectors_read": Out(ReadPort(self._elements, sizes.vectors)),
                "parameters": Out(ReadPort(self._word, sizes.parameters)),
                "biases": Out(ReadPort(self._sum, sizes.biases)),
                "scratchpad_write": Out(WritePort(self._line, lines)),
                "vectors_write": Out(WritePort(self._elements, sizes.vectors)),
                "load_dynamic": In(WritePort(ScaleWord, sizes.rows)),
                "token": Out(32),
                "token_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes = self.sizes.lanes
        m.submodules.sequencer = sequencer = VectorSequencer(self.sizes)
        m.submodules.rows = rows = RowStatistics(depth=self.sizes.rows)
        m.submodules.reducer = reducer = Reducer(lanes=lanes)

        beat = VectorBeat(self.sizes)
        parts = VectorParts(
            sequencer=sequencer,
            rows=rows,
            reducer=reducer,
            op=decode(m, sequencer),
            enable=Signal(name="enable"),
            step=Signal(name="step"),
            valid=Signal(_LAST, name="valid"),
            beats=[Signal(beat, name=f"beat_{n + 1}", reset_less=True) for n in range(_LAST)],
            leaving=Signal(beat, name="leaving"),
            finished=Signal(beat, name="finished", reset_less=True),
            finished_valid=Signal(name="finished_valid"),
            to_scratchpad=Signal(name="finished_to_scratchpad"),
            to_vector=Signal(name="finished_to_vector"),
            reduced=[
                Signal(beat, name=f"reduced_{n}", reset_less=True)
                for n in range(1 + reducer.latency)
            ],
            reduced_valid=Signal(1 + reducer.latency, name="reduced_valid"),
            in_range=Signal(lanes, name="in_range", reset_less=True),
            lanes=[],
        )
        ones = Const(2**lanes - 1, lanes)
        # Constant during a command, from before its first result on.
        m.d.sync += parts.in_range.eq(
            (ones << sequencer.flags.first_lane)[:lanes] & ~(ones << sequencer.flags.end_lane)
        )
        self._add_pipeline(m, parts)
        granted = self._add_reads(m, parts)
        self._add_rows(m, parts)
        waits_scratchpad, waits_vector = self._add_writes(m, parts)

        empty = Signal()
        m.d.comb += [
            empty.eq(
                parts.enable
                & ~(
                    parts.valid.any() | parts.finished_valid | parts.reduced_valid.any() | rows.busy
                )
            ),
            sequencer.empty.eq(empty),
            self.done.eq(sequencer.done),
        ]
        wiring.connect(m, wiring.flipped(self.i), sequencer.i)

        misses = Signal()
        m.d.comb += misses.eq(sequencer.valid & parts.enable)
        self._count(
            m,
            causes={
                # No reads are requested while a write waits, so the write comes first.
                "waiting_scratchpad": waits_scratchpad | (misses & ~granted["scratchpad"]),
                "waiting_vector": waits_vector | (misses & ~granted["vector"]),
                "waiting_accumulator": misses & ~granted["accumulator"],
                "waiting_parameter": misses & ~(granted["parameter"] & granted["bias"]),
                "computing": parts.step,
                "starting": sequencer.busy & ~sequencer.draining,
                "draining": sequencer.busy,
                "idle": Const(1),
            },
        )
        return m

    def _add_pipeline(self, m: Module, p: VectorParts) -> None:
        """Move the beats through the stages, and select the one whose result is due."""
        travels = Signal(_LAST)  # stages up to the one whose result is taken
        leaves = Signal()
        with m.Switch(p.op.kind):
            for kind in Kind:
                stage = LATENCY[kind] - 1
                with m.Case(kind):
                    m.d.comb += [
                        p.leaving.eq(p.beats[stage]),
                        leaves.eq(p.valid[stage]),
                        travels.eq(2**stage - 1),
                    ]
        with m.If(p.enable):
            m.d.sync += [
                p.valid.eq(Cat(p.step, p.valid & travels)),
                p.beats[0].eq(p.sequencer.beat),
            ]
            for before, after in pairwise(p.beats):
                m.d.sync += after.eq(before)
            # The first phase of a gate yields nothing yet.
            nothing = p.op.gates & ~p.leaving.phase
            m.d.sync += [
                p.finished.eq(p.leaving),
                p.finished_valid.eq(leaves & ~nothing),
                p.to_scratchpad.eq(leaves & ~p.leaving.epsilon & p.op.to_scratchpad),
                p.to_vector.eq(leaves & ~nothing & p.op.to_vector),
                p.reduced[0].eq(p.finished),
                *(after.eq(before) for before, after in pairwise(p.reduced)),
                p.reduced_valid.eq(Cat(p.finished_valid & p.op.reduces, p.reduced_valid)),
            ]

    def _add_reads(self, m: Module, p: VectorParts) -> dict[str, Signal]:
        """Read the operands of beats for the lanes; return the grants of the memories."""
        sizes, sequencer = self.sizes, p.sequencer
        granted: dict[str, Signal] = {}

        def fetch(name: str, port: Any, shape: Any, depth: int, at: Value) -> Any:
            m.submodules[f"fetch_{name}"] = block = OperandFetch(shape, depth)
            wiring.connect(m, block.port, wiring.flipped(port))
            m.d.comb += [
                block.enable.eq(p.enable),
                block.want.eq(sequencer.valid & sequencer.reads[name]),
                block.address.eq(at),
                block.step.eq(p.step),
            ]
            granted[name] = block.granted
            return block.data

        lines = sizes.scratchpad // sizes.line
        lane_bits, line_bits = ceil_log2(sizes.lanes), ceil_log2(sizes.line)
        at = sequencer.scratchpad
        sums = fetch(
            "accumulator", self.accumulators, self._sum, sizes.accumulators, sequencer.accumulator
        )
        line = fetch("scratchpad", self.scratchpad_read, self._line, lines, at[line_bits:])
        elements = fetch(
            "vector", self.vectors_read, self._elements, sizes.vectors, sequencer.vector
        )
        words = fetch(
            "parameter", self.parameters, self._word, sizes.parameters, sequencer.parameter
        )
        biases = fetch("bias", self.biases, self._sum, sizes.biases, sequencer.bias)
        m.d.comb += [
            p.step.eq(sequencer.valid & p.enable & Cat(granted.values()).all()),
            sequencer.step.eq(p.step),
        ]
        bits = ACTIVATION_BITS * sizes.lanes
        piece = Signal(bits)
        if line_bits > lane_bits:
            chosen = Signal(line_bits - lane_bits, reset_less=True)
            with m.If(p.step):
                m.d.sync += chosen.eq(at[lane_bits:line_bits])
            m.d.comb += piece.eq(Value.cast(line).word_select(chosen, bits))
        else:
            m.d.comb += piece.eq(Value.cast(line))
        self._add_lanes(m, p, sums, piece, elements, words, biases)
        return granted

    def _add_lanes(
        self,
        m: Module,
        p: VectorParts,
        sums: Any,
        piece: Value,
        elements: Any,
        words: Any,
        biases: Any,
    ) -> None:
        """Add lanes for what memories show in stage 1."""
        lanes, rows, op = self.sizes.lanes, p.rows, p.op
        ones = Const(2**lanes - 1, lanes)
        scaled = LATENCY[Kind.REQUANTIZED] - 1
        load = Signal()
        keep = Signal()
        live = Signal(lanes)
        written = Signal(lanes)
        dynamic = Signal(ScaleWord, reset_less=True)
        top = Signal(signed(32), reset_less=True)
        bits = Signal(6)
        m.d.comb += [
            load.eq(p.valid[0]),
            bits.eq(Mux(p.beats[1].epsilon, EPSILON_BITS, op.bits)),
            # The second phase is kept, too, when the gate has already taken the first.
            keep.eq(op.gates & p.valid[scaled]),
            live.eq(~(ones << p.leaving.count)),
            written.eq(Mux(op.searches, ones, Mux(p.finished.epsilon, 1, p.in_range))),
        ]
        with m.If(p.enable & load):
            m.d.sync += top.eq(rows.top)
            with m.If(op.quantizes):
                m.d.sync += dynamic.eq(rows.inverse)
            with m.Elif(op.uses_dynamic):
                m.d.sync += dynamic.eq(rows.dynamic)
            with m.Else():
                m.d.sync += dynamic.eq(ScaleWord.const({**UNITY}))

        for n in range(lanes):
            lane: Any = Precompiled(self._lane, "vector_lane")
            m.submodules[f"lane_{n}"] = lane
            p.lanes.append(lane)
            m.d.comb += [
                lane.enable.eq(p.enable),
                lane.load.eq(load),
                lane.source.eq(op.source),
                lane.total.eq(sums[n]),
                lane.cell.eq(piece.word_select(n, ACTIVATION_BITS)),
                lane.bias.eq(Mux(op.biased, biases[n][:16], 0)),
                lane.biased.eq(op.biased),
                lane.element.eq(elements[n]),
                lane.word.eq(words[n]),
                lane.top.eq(top),
                lane.dynamic.eq(dynamic),
                lane.bits.eq(bits),
                lane.scale.eq(p.sequencer.scale),
                lane.kind.eq(op.kind),
                lane.fill.eq(op.searches),
                lane.square_shift.eq(p.sequencer.flags.square_shift),
                lane.beyond.eq(op.beyond),
                lane.squares.eq(op.norms),
                lane.magnitudes.eq(op.to_vector),
                lane.keep.eq(keep),
                lane.live.eq(live[n]),
                lane.written.eq(written[n]),
                p.reducer.scores[n].eq(lane.score),
                p.reducer.addends[n].eq(lane.addend),
            ]
        # Of lanes of a norm's epsilon only this one counts.
        with m.If(p.beats[0].epsilon):
            m.d.comb += p.lanes[0].element.eq(p.sequencer.epsilon)
        rotated: list[Any] = []
        for n in range(0, lanes, 2):
            rotate: Any = Precompiled(self._rotate, "vector_rotate")
            m.submodules[f"rotate_{n}"] = rotate
            a, b = p.lanes[n : n + 2]
            rotated += [rotate.rotated_a, rotate.rotated_b]
            m.d.comb += [
                rotate.enable.eq(p.enable & op.rotates),
                rotate.a.eq(a.scaled),
                rotate.b.eq(b.scaled),
                rotate.cosine.eq(a.factor),
                rotate.sine.eq(b.factor),
            ]
        self._add_pairs(m, p, rotated)

    def _add_pairs(self, m: Module, p: VectorParts, rotated: list[Any]) -> None:
        """Hand rotated elements to their lanes, or in pairs to those of both planes."""
        flags = p.sequencer.flags
        # Registers, beside the results of the rotation: flags are constant during a command.
        phase = p.beats[LATENCY[Kind.ROTATED] - 2].phase
        distances = Signal(ceil_log2(len(p.lanes)), name="pair_distances", reset_less=True)
        m.d.sync += distances.eq(Cat(flags.pair == 2**bit for bit in range(len(distances))))
        for n, lane in enumerate(p.lanes):
            other = Signal(signed(16), name=f"other_{n}")
            for bit in range(1, len(distances)):
                with m.If(distances[bit]):
                    m.d.comb += other.eq(rotated[n ^ 2**bit])
            odd = (flags.pair & n).any()
            takes_other = Signal(name=f"takes_other_{n}", reset_less=True)
            plane = Signal(name=f"plane_{n}", reset_less=True)
            takes = flags.pair.any() & (odd != phase)
            with m.If(p.enable):
                m.d.sync += [
                    takes_other.eq(takes),
                    plane.eq(Mux(flags.pair.any(), takes ^ flags.low_first, phase)),
                ]
            m.d.comb += [
                lane.rotated.eq(Mux(takes_other, other, rotated[n])),
                lane.plane.eq(plane),
            ]

    def _add_rows(self, m: Module, p: VectorParts) -> None:
        """Read and write row states, reduce rows, and ask for their scales."""
        rows, reducer, op = p.rows, p.reducer, p.op
        here = p.reduced[-1]
        restarts, floor = Signal(reset_less=True), Signal(32, reset_less=True)
        start_best = Signal(32, reset_less=True)
        found = Signal()  # the reducer holds a result of ARGMAX
        token = Signal(32)
        ends, asks_more = Signal(), Signal()
        apart, gives_scale = Signal(reset_less=True), Signal(reset_less=True)
        asked_row = Signal.like(here.row, reset_less=True)
        asked_best = Signal(signed(32), reset_less=True)
        # Constant during a command, as is what it is made of.
        m.d.sync += [
            restarts.eq(p.sequencer.flags.restart),
            floor.eq(Mux(op.gates, p.sequencer.target, 0)),
            apart.eq(op.norms & p.sequencer.flags.dynamic),
            gives_scale.eq(op.gates & p.sequencer.flags.low_first),
        ]
        with m.If(p.enable):
            m.d.sync += start_best.eq(Mux(restarts, floor, rows.largest))
            with m.If(op.searches):
                m.d.sync += start_best.eq(Const(-(2**31), 32))
        m.d.comb += [
            ends.eq(p.enable & p.reduced_valid[-1] & here.last),
            rows.row.eq(p.sequencer.beat.row),
            rows.enable.eq(p.enable),
            rows.statistics_row.eq(p.reduced[-3].row),
            reducer.enable.eq(p.enable),
            reducer.valid.eq(p.reduced_valid[-1]),
            reducer.first.eq(here.first),
            reducer.tile.eq(here.tile),
            reducer.start_best.eq(start_best),
            rows.write_row.eq(here.row),
            rows.best.eq(reducer.best),
            rows.write_largest.eq(ends & op.to_vector),
            rows.write_top.eq(ends & op.tops),
            rows.ask.eq((ends & (op.exponential | op.norms | op.to_vector)) | asks_more),
            rows.ask_row.eq(Mux(asks_more, asked_row, Cat(here.row[:-1], here.row[-1] ^ apart))),
            rows.load_en.eq(self.load_dynamic.en),
            rows.load_row.eq(self.load_dynamic.address),
            rows.load_word.eq(self.load_dynamic.data),
            self.load_dynamic.ready.eq(rows.load_ready),
        ]
        # A row of GATE may have two scales. It ends two cycles before the next one, at the earliest.
        m.d.sync += [
            asks_more.eq(ends & gives_scale),
            asked_row.eq(here.row),
            asked_best.eq(reducer.best),
        ]
        with m.If(asks_more):
            m.d.comb += [
                rows.value.eq(asked_best),
                rows.function.eq(Function.TO_SCALE),
                rows.purpose.eq(Purpose.DYNAMIC),
            ]
        with m.Elif(op.to_vector):
            m.d.comb += [
                rows.value.eq(reducer.best),
                rows.function.eq(Function.RECIPROCAL),
                rows.purpose.eq(Purpose.INVERSE),
            ]
        with m.Else():
            m.d.comb += [
                rows.value.eq(reducer.total),
                rows.function.eq(Mux(op.norms, Function.RSQRT, Function.RECIPROCAL)),
                rows.purpose.eq(Purpose.DYNAMIC),
            ]
        m.d.sync += found.eq(ends & op.argmax)
        with m.If(ends & op.argmax):
            m.d.sync += self.token_valid.eq(1)
        with m.If(found):
            m.d.sync += token.eq(reducer.held_where)
        m.d.comb += self.token.eq(Mux(found, reducer.held_where, token))

    def _add_writes(self, m: Module, p: VectorParts) -> tuple[Signal, Signal]:
        """Write what is finished; return whether the scratchpad, the vector memory refuse it."""
        sizes = self.sizes
        pieces = sizes.line // sizes.lanes
        lane_bits, line_bits = ceil_log2(sizes.lanes), ceil_log2(sizes.line)
        target = p.finished.target
        write, write_vector = self.scratchpad_write, self.vectors_write
        mask = Signal(sizes.line)
        m.d.comb += mask.eq(p.in_range)
        if pieces > 1:
            m.d.comb += mask.eq(p.in_range << (target[lane_bits:line_bits] << lane_bits))
        waits_scratchpad = Signal()
        waits_vector = Signal()
        m.d.comb += [
            write.en.eq(p.to_scratchpad),
            write.address.eq(target[line_bits:]),
            write.mask.eq(mask),
            Value.cast(write.data).eq(
                Cat(*(lane.result[:ACTIVATION_BITS] for lane in p.lanes * pieces))
            ),
            write_vector.en.eq(p.to_vector),
            write_vector.address.eq(target),
            write_vector.mask.eq(p.in_range),
            Value.cast(write_vector.data).eq(Cat(*(lane.result for lane in p.lanes))),
            waits_scratchpad.eq(write.en & ~write.ready),
            waits_vector.eq(write_vector.en & ~write_vector.ready),
            p.enable.eq(~(waits_scratchpad | waits_vector)),
        ]
        return waits_scratchpad, waits_vector

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
            ("scratchpad_read", self.scratchpad_read, lanes * ACTIVATION_BITS // 8),
            ("scratchpad_write", self.scratchpad_write, lanes * ACTIVATION_BITS // 8),
            ("vector_read", self.vectors_read, 4 * lanes),
            ("vector_write", self.vectors_write, 4 * lanes),
            ("parameter_read", self.parameters, 4 * lanes),
        ):
            counter = Signal(32, name=f"bytes_{name}")
            with m.If(port.en & port.ready):
                m.d.sync += counter.eq(counter + amount)
