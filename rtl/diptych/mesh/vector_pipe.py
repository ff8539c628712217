# SPDX-License-Identifier: BSD-2-Clause
"""Vector pipe of a tile: executes the vector instructions on memory."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.carry_save import carry_save
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import planes
from diptych.arith.scale import ScaleWord
from diptych.arith.silu import SiluGate
from diptych.config import ACTIVATION_BITS

from .element import write_element
from .fabric import Wavelet
from .instruction_queue import queue_instruction
from .isa import Op, Type
from .operand_sequencer import HELD_WORDS
from .operation import VectorOperation
from .sram import PairPort, ReadPort, WritePort
from .vector_pipe_signals import STAGES, VectorPipeSignals
from .word_queue import WordQueue

__all__ = ["VectorPipe"]


class VectorPipe(wiring.Component):
    """Executes all vector instructions (:class:`.Op`) except RECEIVE and TRANSMIT.

    A step per cycle. An instruction that is issued to an idle pipe starts at once. Others wait in a
    queue of one until the steps of the one before are made: one of the same kind, not empty and
    without a fence starts in the cycle after the last step, and otherwise when no step is under way
    in the stages. Its first step comes a cycle after the start; with ``fence_pipe`` not before the cycle after the last result has left. The
    latency from the read of the operands to the result is given by :data:`STAGES`. The whole pipe
    stalls while two results cannot be sent or written.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    i : :py:`In(stream.Signature(VectorOperation()))`
        Instructions; ``ready`` is a register.
    receives, received : :py:`In(4)`, :py:`In(1)`
        RECEIVEs that are not over; one is over after this cycle. An instruction with their fence
        waits for those that were issued before it.
    untaken, takes_last : :py:`In(4)`, :py:`In(1)`
        The same of RECEIVEs that have not taken their last wavelets, for a REQUANTIZE with ``planes``.
    transmitting : :py:`In(1)`
        The transmitter has something to do: an instruction with its fence waits.
    holds_transmit : :py:`Out(1)`
        An instruction with that fence waits: no TRANSMIT must be issued, it would wait for it.
    read_a, read_b, write : :py:`Out(ReadPort())`, :py:`Out(PairPort())`, :py:`Out(WritePort())`
        Ports of the SRAM.
    write_waits : :py:`Out(1)`
        A result is written to memory only, and is not held up by a color.
    o, sends_as : :py:`Out(stream.Signature(Wavelet()))`, :py:`Out(colors)`
        Results that are sent on a color; its bit.
    waiting, pop : :py:`In(colors)`, :py:`Out(colors)`
        A bit per color: a wavelet may be taken; it is taken.
    overtaken : :py:`In(1)`
        No wavelet may be taken: somebody else takes one.
    color, value : :py:`Out(5)`, :py:`In(signed(32))`
        Color of the operand; the wavelet taken three cycles ago.
    busy : :py:`Out(1)`
        An instruction is active or queued, or a result has not left.
    awaits : :py:`Out(1)`
        All that is left is an instruction that waits for RECEIVEs.
    unsent : :py:`Out(colors)`
        A bit per color: since the pipe was idle, something was issued that sends on it.
    statistic_valid, statistic : :py:`Out(1)`, :py:`Out(32)`
        Statistic of an instruction that has ended.
    steps : :py:`Out(1)`
        A step is executed.
    starved : :py:`Out(1)`
        A step waits for its operands.
    unfed : :py:`Out(1)`
        A step waits for a wavelet.
    blocked : :py:`Out(1)`
        The result cannot be sent or written.
    macs : :py:`Out(4)`
        Products of the step in stage 2.
    """

    i: stream.Interface
    read_a: Any
    read_b: Any
    write: Any
    write_waits: Signal
    o: stream.Interface
    sends_as: Signal
    color: Signal
    waiting: Signal
    overtaken: Signal
    value: Signal
    pop: Signal
    receives: Signal
    received: Signal
    untaken: Signal
    takes_last: Signal
    transmitting: Signal
    holds_transmit: Signal
    busy: Signal
    awaits: Signal
    unsent: Signal
    statistic_valid: Signal
    statistic: Signal
    steps: Signal
    starved: Signal
    unfed: Signal
    blocked: Signal
    macs: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "i": In(stream.Signature(VectorOperation())),
                "read_a": Out(ReadPort()),
                "read_b": Out(PairPort()),
                "write": Out(WritePort()),
                "write_waits": Out(1),
                "o": Out(stream.Signature(Wavelet())),
                "sends_as": Out(colors),
                "color": Out(5),
                "waiting": In(colors),
                "overtaken": In(1),
                "value": In(signed(32)),
                "pop": Out(colors),
                "receives": In(4),
                "received": In(1),
                "untaken": In(4),
                "takes_last": In(1),
                "transmitting": In(1),
                "holds_transmit": Out(1),
                "busy": Out(1),
                "awaits": Out(1),
                "unsent": Out(colors),
                "statistic_valid": Out(1),
                "statistic": Out(32),
                "steps": Out(1),
                "starved": Out(1),
                "unfed": Out(1),
                "blocked": Out(1),
                "macs": Out(4),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = VectorPipeSignals(self.colors)
        self._issue(m, s)
        self._feed(m, s)
        self._read_sums(m, s)
        self._select(m, s)
        self._write_back(m, s)
        return m

    def _issue(self, m: Module, s: VectorPipeSignals) -> None:
        """Take an instruction, and move its steps through the stages of the pipe."""
        m.submodules.steps = s.steps
        m.submodules.dot = s.dot
        m.submodules.requantizer = s.requantizer
        m.submodules.rotate = s.rotate
        m.submodules.exponential = s.exponential
        m.submodules.gate = s.gate
        m.submodules.noise = s.noise
        m.submodules.statistic = s.statistic
        m.submodules.results = s.results
        wiring.connect(m, wiring.flipped(self.read_a), s.steps.read_a)
        wiring.connect(m, wiring.flipped(self.read_b), s.steps.read_b)
        queue_instruction(m, self, s)

        # Color of the operand; no bit, if there is none.
        color_bit = Signal(self.colors)
        m.d.comb += [
            *(kind.eq(s.now.op == op) for op, kind in s.kinds.items()),
            s.enable.eq(s.results.i.ready),
            s.unsettled.eq(s.results.o.valid),
            s.works.eq(s.steps.busy | s.travelling | s.unsettled | s.statistic.busy),
            self.busy.eq(s.queued | s.works),
            s.steps.operation.eq(s.now),
            s.steps.enable.eq(s.enable),
            s.steps.unsettled.eq(s.unsettled),
            s.steps.held.eq(s.statistic.holds),
            self.steps.eq(s.steps.step.valid),
            self.starved.eq(s.steps.asks & s.steps.fed & ~s.steps.step.valid),
            self.unfed.eq(s.steps.asks & ~s.steps.fed),
            self.color.eq(s.now.tail.bits),
            self.pop.eq(Mux(s.steps.step.valid, color_bit, 0)),
            s.steps.fed.eq(~s.joins | ((self.waiting & color_bit).any() & ~self.overtaken)),
            s.tags[0].eq(s.steps.step),
        ]
        starting = s.steps.starting
        joins = (starting.op == Op.MOVE) & starting.tail.accumulate
        with m.If(~s.steps.busy):
            m.d.sync += [s.joins.eq(joins), color_bit.eq(Mux(joins, 1 << starting.tail.bits, 0))]
        moved = [Signal(name=f"moved_{n}") for n in range(1, len(s.tags))]
        for stage, (tag, valid) in enumerate(zip(s.tags, moved, strict=False)):
            ends = Cat(s.kinds[op] for op, last in STAGES.items() if last == stage).any()
            m.d.comb += valid.eq(tag.valid & ~ends)
        with m.If(s.enable):
            m.d.sync += s.travelling.eq(Cat(moved).any())
            for before, behind, valid in zip(s.tags, s.tags[1:], moved, strict=False):
                m.d.sync += behind.valid.eq(valid)
                with m.If(before.valid):
                    m.d.sync += [behind.eq(before), behind.valid.eq(valid)]

    def _feed(self, m: Module, s: VectorPipeSignals) -> None:
        """Register the operands of the step in stage 1, and feed them to the engines."""
        at, now = s.tags[1], s.now
        width = 8 * ACTIVATION_BITS
        m.submodules.held = held = memory.Memory(shape=unsigned(width), depth=HELD_WORDS, init=[])
        held_write, held_read = held.write_port(), held.read_port(domain="comb")
        word_a, word_b = self.read_a.data, self.read_b.data
        weights = Signal(64, reset_less=True)
        activations = Signal(width, reset_less=True)
        a, b = (Signal(32, name=f"operand_{name}", reset_less=True) for name in "ab")
        # Of the instruction: the next one may start while the step goes on.
        a_type = Signal(Type, reset_less=True)
        scalar = Signal(32, reset_less=True)
        kinds = s.kinds
        # Of the element, for NOISE.
        index = Signal(24, reset_less=True)
        m.d.comb += [
            held_write.en.eq(s.enable & at.valid & at.keep),
            held_write.addr.eq(at.slot),
            held_write.data.eq(self._activations(s, word_b)),
            held_read.addr.eq(at.slot),
        ]
        half_b = word_b.word_select(at.b_place[2], 32)
        with m.If(s.enable & at.valid):
            m.d.sync += [
                weights.eq(word_a),
                activations.eq(Mux(at.held, held_read.data, held_write.data)),
                a.eq(word_a.word_select(at.a_place[2], 32)),
                b.eq(half_b),
                a_type.eq(now.tail.a_type),
                scalar.eq(now.scalar),
                index.eq(Mux(at.begins, now.offset, index + 1)),
            ]
        # EXPONENTIAL multiplies a difference: that comes a cycle earlier.
        distance = Signal(32, reset_less=True)
        exponent = Signal(ScaleWord, name="exponent_scale", reset_less=True)
        with m.If(s.enable):
            m.d.sync += [distance.eq(scalar - a), exponent.eq(s.requantizer.dynamic)]
        here = s.tags[2]
        a_value = Signal(signed(32))
        byte = a.word_select(here.a_place[:2], 8).as_signed()
        pair = a.word_select(here.a_place[1], 16).as_signed()
        with m.Switch(a_type):
            with m.Case(Type.INT8):
                m.d.comb += a_value.eq(byte)
            with m.Case(Type.INT16):
                m.d.comb += a_value.eq(pair)
            with m.Default():
                m.d.comb += a_value.eq(a.as_signed())
        runs = s.enable & s.travelling
        m.d.comb += [
            s.dot.enable.eq(runs & kinds[Op.MATVEC]),
            s.dot.weights.eq(weights),
            Value.cast(s.dot.activations).eq(activations),
            self.macs.eq(Mux(s.dot.enable & here.valid & ~here.zero, 8, 0)),
            s.rotate.enable.eq(runs & kinds[Op.ROTATE]),
            s.rotate.a.eq(a[:16]),
            s.rotate.b.eq(a[16:]),
            s.rotate.cosine.eq(b[:16]),
            s.rotate.sine.eq(b[16:]),
            s.exponential.enable.eq(runs & kinds[Op.EXPONENTIAL]),
            s.exponential.distance.eq(distance),
            s.exponential.word.eq(exponent),
            s.exponential.is_byte.eq(s.tags[STAGES[Op.EXPONENTIAL] - 1].is_byte),
            s.gate.enable.eq(runs & kinds[Op.GATE]),
            s.gate.gate.eq(a[:16]),
            s.gate.up.eq(a[16:]),
            s.gate.shift.eq(scalar[22:26]),
            s.noise.enable.eq(runs & kinds[Op.NOISE]),
            s.noise.key.eq(now.scalar),
            s.noise.index.eq(index),
            s.noise.shift.eq(now.inner),
        ]
        self._requantize(m, s, a_value, half_b)
        self._join(m, s, a_value)

    def _requantize(self, m: Module, s: VectorPipeSignals, a_value: Signal, half_b: Value) -> None:
        """Re-quantize the element in stage 2, or what GATE makes of it, by the element's scales."""
        now, gates, requantizer = s.now, s.kinds[Op.GATE], s.requantizer
        scales = Cat(requantizer.bits, requantizer.dynamic, requantizer.word)
        fixed = Cat(now.tail.bits, now.dynamic, now.scalar[:22])
        # Of the elements in the stages of GATE; what it made of those in the requantizer.
        kept = [Signal(len(fixed), name=f"gate_scales_{n}") for n in range(SiluGate.latency)]
        made = [Signal(signed(32), name=f"gated_{n}") for n in range(Requantizer.latency)]
        with m.If(s.gate.enable):
            for stages in ([fixed, *kept], [s.gate.result, *made]):
                m.d.sync += [behind.eq(before) for before, behind in pairwise(stages)]
        # They go from registers to the requantizer's multiplier.
        held = Signal(len(fixed), name="scales", reset_less=True)
        with m.If(s.enable & (gates | s.tags[1].valid)):
            m.d.sync += held.eq(Mux(gates, kept[-1], fixed))
            with m.If(now.tail.static_memory):
                m.d.sync += held[-22:].eq(half_b[:22])
        m.d.comb += [
            scales.eq(held),
            requantizer.enable.eq(s.enable & s.travelling & (s.kinds[Op.REQUANTIZE] | gates)),
            requantizer.value.eq(Mux(gates, s.gate.result, a_value)),
            s.gated.eq(made[-1]),
        ]

    def _activations(self, s: VectorPipeSignals, word: Value) -> Value:
        """Return the eight elements of X in the ``word`` that ``read_b`` shows, or in two."""
        size = ACTIVATION_BITS
        halves = [x[16 * n : 16 * n + size] for x in (word, self.read_b.upper) for n in range(4)]
        bytes_ = [word[8 * n : 8 * n + 8] for n in range(8)]
        extended = [Cat(byte, byte[7].replicate(size - 8)) for byte in bytes_]
        return Mux(s.now.tail.a_type == Type.INT16, Cat(halves), Cat(extended))

    def _join(self, m: Module, s: VectorPipeSignals, a_value: Signal) -> None:
        """Join the element in stage 3 with its wavelet, which has come by then."""
        m.submodules.wavelets = wavelets = WordQueue()
        wavelet = wavelets.oldest.as_signed()
        element = Signal(signed(32), reset_less=True)
        # All are 0 for the results of other instructions.
        flags = ("joins", "adds", "passes", "compares", "keeps")
        early = [Signal(name=f"{name}_early") for name in flags]
        joins, adds, passes, compares, keeps = late = [Signal(name=name) for name in flags]
        tail = s.now.tail
        alone = tail.a_type == Type.NONE
        is_joined = s.kinds[Op.MOVE] & tail.accumulate
        now = (
            is_joined,
            is_joined & ~alone & ~tail.argmax,
            is_joined & alone,
            is_joined & ~alone & tail.argmax,
            s.kinds[Op.MOVE] & ~is_joined,
        )
        with m.If(s.enable):
            m.d.sync += [
                element.eq(a_value),
                *(flag.eq(value) for flag, value in zip(early, now, strict=True)),
                *(behind.eq(before) for before, behind in zip(early, late, strict=True)),
            ]
        m.d.comb += [
            wavelets.popped.eq(s.joins & s.steps.step.valid),
            wavelets.word.eq(self.value),
            wavelets.take.eq(s.enable & s.tags[STAGES[Op.MOVE]].valid & joins),
            s.joined.eq(
                Mux(passes, wavelet, 0)
                | Mux(keeps, element, 0)
                | Mux(adds, element + wavelet, 0)
                # What a comparison selects is known last.
                | Mux(compares, Mux(element < wavelet, wavelet, element), 0)
            ),
        ]

    def _read_sums(self, m: Module, s: VectorPipeSignals) -> None:
        """Keep the two sums that ``read_b`` showed for results that accumulate."""
        shown, early = Signal(name="sums_shown"), Signal(64, name="sums_early", reset_less=True)
        came = Signal(name="sums_came")
        ready, pair = Signal(name="sums_ready"), Signal(64, name="sums_pair", reset_less=True)
        with m.If(s.enable):
            m.d.sync += [shown.eq(s.steps.reads_sums), came.eq(shown), ready.eq(came)]
            with m.If(shown):
                m.d.sync += early.eq(self.read_b.data)
            with m.If(came):
                m.d.sync += pair.eq(early)
            with m.If(ready):
                m.d.sync += s.pair.eq(pair)

    def _select(self, m: Module, s: VectorPipeSignals) -> None:
        """Select the result of the instruction's engine."""
        sums = Signal(signed(32), reset_less=True)
        before, term = Signal(32), Signal(32)
        added = Signal(32)
        last_dot = s.tags[STAGES[Op.MATVEC]]
        m.d.comb += [
            term.eq(Mux(last_dot.zero, 0, Mux(last_dot.high, s.dot.total << 8, s.dot.total))),
            before.eq(Mux(last_dot.first, 0, sums)),
            added.eq(Mux(last_dot.accumulate, s.pair.word_select(last_dot.d[2], 32), 0)),
        ]
        with m.If(s.enable & last_dot.valid & (s.now.op == Op.MATVEC)):
            m.d.sync += sums.eq(before + term)
        rotated_a = planes(m, s.rotate.rotated_a, name="plane_a")
        rotated_b = planes(m, s.rotate.rotated_b, name="plane_b")
        with m.Switch(s.now.op):
            for op, stage in STAGES.items():
                with m.Case(op):
                    m.d.comb += s.out.eq(s.tags[stage])
        places, carries = carry_save(m, before, term, added, name="row")
        with m.Switch(s.now.op):
            with m.Case(Op.MATVEC):
                m.d.comb += s.value.eq(places + carries)
            with m.Case(Op.REQUANTIZE):
                m.d.comb += s.value.eq(s.requantizer.result)
            with m.Case(Op.ROTATE):
                high = Cat(rotated_a[0], rotated_b[0])
                low = Cat(rotated_a[1], rotated_b[1])
                m.d.comb += s.value.eq(Mux(s.out.high, high, low))
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += s.value.eq(Mux(s.out.zero, 0, s.exponential.power))
            with m.Case(Op.GATE):
                m.d.comb += s.value.eq(s.gated)
            with m.Case(Op.NOISE):
                m.d.comb += s.value.eq(s.noise.noise)
        result = s.results.i.payload
        m.d.comb += [
            s.results.i.valid.eq(s.out.valid & s.out.emit),
            result.value.eq(s.value | s.joined),
            result.low.eq(Mux(s.now.op == Op.GATE, s.requantizer.result, s.value) | s.joined),
            result.d.eq(s.out.d),
            result.type.eq(s.out.type),
            result.color.eq(s.out.color),
            result.color_bit.eq(1 << s.out.color),
            result.control.eq(s.out.last & s.out.control),
            result.writes.eq(s.out.writes),
            result.sends.eq(s.out.to_color),
            result.only_writes.eq(s.out.writes & ~s.out.to_color),
            result.begins.eq(s.out.begins),
            result.ends.eq(s.out.last),
            result.statistic.eq(s.out.statistic),
            result.signed_maximum.eq(s.now.op == Op.MATVEC),
            result.adds.eq(s.now.op == Op.EXPONENTIAL),
            result.squares.eq(s.now.op == Op.REQUANTIZE),
            result.shift.eq(s.out.shift),
            result.sends_statistic.eq(s.out.sends_statistic),
        ]

    def _write_back(self, m: Module, s: VectorPipeSignals) -> None:
        """Send the result to a color, write it to the SRAM, or both; it leaves when that is done."""
        result, statistic = s.results.o.payload, s.statistic
        sends, writes, leaves, stays = Signal(), Signal(), Signal(), Signal()
        # One of the two has been done.
        sent, written = Signal(), Signal()
        m.d.comb += [
            sends.eq(s.results.o.valid & result.sends & ~sent),
            writes.eq(s.results.o.valid & result.writes & ~written),
            # A statistic goes before the results of later instructions.
            leaves.eq(sends & ~statistic.holds),
            s.results.o.ready.eq(
                (~sends | (leaves & self.o.ready)) & (~writes | self.write.ready) & ~statistic.waits
            ),
            stays.eq(s.results.o.valid & ~s.results.o.ready),
            self.blocked.eq(stays | (statistic.owed & ~self.o.ready)),
            statistic.valid.eq(s.results.o.valid),
            statistic.leaves.eq(s.results.o.ready),
            statistic.result.eq(result),
            statistic.empty.eq(s.steps.empty & s.now.tail.statistic),
            statistic.empty_is_maximum.eq(s.now.op == Op.MATVEC),
            statistic.empty_sends.eq(s.now.sends_statistic),
            statistic.empty_color.eq(s.now.tail.color),
            statistic.sent.eq(self.o.ready),
            self.statistic_valid.eq(statistic.found),
            self.statistic.eq(statistic.value),
            self.o.valid.eq(statistic.owed | leaves),
            self.o.payload.control.eq(result.control & ~statistic.owed),
            self.o.payload.data.eq(Mux(statistic.owed, statistic.owed_value, result.value)),
            self.o.payload.color.eq(Mux(statistic.owed, statistic.owed_color, result.color)),
            self.sends_as.eq(Mux(statistic.owed, statistic.owed_bit, result.color_bit)),
            self.write.valid.eq(writes),
            self.write_waits.eq(s.results.o.valid & result.only_writes),
        ]
        m.d.sync += [
            sent.eq(stays & (sent | (leaves & self.o.ready))),
            written.eq(stays & (written | (writes & self.write.ready))),
        ]
        write_element(m, self.write, result.value, result.low, result.type, result.d)
