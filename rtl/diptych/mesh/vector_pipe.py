# SPDX-License-Identifier: BSD-2-Clause
"""Vector pipe of a tile: executes the vector instructions on memory."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate, planes
from diptych.arith.silu import SiluGate

from .fabric import Wavelet
from .isa import Op, Type
from .operand_sequencer import HELD_WORDS, OperandSequencer, Step
from .operation import VectorOperation
from .sram import ReadPort, WritePort
from .word_queue import WordQueue

__all__ = ["VectorPipe"]

STAGES = {
    Op.MATVEC: 1 + Dot8.latency,
    Op.REQUANTIZE: 1 + Requantizer.latency,
    Op.ROTATE: 1 + Rotate.latency,
    Op.EXPONENTIAL: 1 + Exponential.latency,
    Op.GATE: 1 + SiluGate.latency,
    Op.MOVE: 2,
}
"""Cycles from the read of an element's operands to its result."""


class _Signals:
    """Blocks of a :class:`VectorPipe`, and the signals between its parts."""

    def __init__(self) -> None:
        self.steps = OperandSequencer()
        self.dot = Dot8()
        self.requantizer = Requantizer()
        self.rotate = Rotate()
        self.exponential = Exponential()
        self.gate = SiluGate()
        self.now = Signal(VectorOperation())
        # The step in each stage.
        self.tags = [Signal(Step(), name=f"tag_{n}") for n in range(max(STAGES.values()) + 1)]
        self.enable = Signal()
        self.travelling = Signal()
        # Result of MOVE.
        self.joined = Signal(signed(32))
        # Two sums that results are added to.
        self.pair = Signal(64, reset_less=True)
        # The step that ends, and its result.
        self.out = Signal(Step())
        self.value = Signal(signed(32))
        self.leaves = Signal()


class VectorPipe(wiring.Component):
    """Executes all vector instructions (:class:`.Op`) except RECEIVE and TRANSMIT.

    A step per cycle. The next instruction is taken in the cycle after the last step, if it is of
    the same kind and not empty, and otherwise when the last result has left; its first step comes
    a cycle later. The latency from the read of the operands to the result is given by
    :data:`STAGES`. The whole pipe stalls while its result cannot be sent or written.

    Members
    -------
    i : :py:`In(stream.Signature(VectorOperation()))`
        Instructions.
    read_a, read_b, write : :py:`Out(ReadPort())`, :py:`Out(WritePort())`
        Ports of the SRAM.
    write_waits : :py:`Out(1)`
        A result is written to memory only, and is not held up by a color.
    o : :py:`Out(stream.Signature(Wavelet()))`
        Results that are sent on a color.
    color, waiting, value, pop : :py:`Out(5)`, :py:`In(1)`, :py:`In(signed(32))`, :py:`Out(1)`
        Color of the operand; its wavelet may be taken; the wavelet taken two cycles ago; it is
        taken.
    asks : :py:`Out(1)`
        An operand is a wavelet.
    busy : :py:`Out(1)`
        An instruction is active.
    statistic_valid, statistic : :py:`Out(1)`, :py:`Out(32)`
        Statistic of the instruction that ends in this cycle.
    steps : :py:`Out(1)`
        A step is executed.
    starved : :py:`Out(1)`
        A step waits for its operands.
    unfed : :py:`Out(1)`
        A step waits for a wavelet.
    blocked : :py:`Out(1)`
        The result cannot be sent or written.
    macs : :py:`Out(4)`
        Products of the step in stage 1.
    """

    i: stream.Interface
    read_a: Any
    read_b: Any
    write: Any
    write_waits: Signal
    o: stream.Interface
    color: Signal
    waiting: Signal
    value: Signal
    pop: Signal
    asks: Signal
    busy: Signal
    statistic_valid: Signal
    statistic: Signal
    steps: Signal
    starved: Signal
    unfed: Signal
    blocked: Signal
    macs: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(VectorOperation())),
                "read_a": Out(ReadPort()),
                "read_b": Out(ReadPort()),
                "write": Out(WritePort()),
                "write_waits": Out(1),
                "o": Out(stream.Signature(Wavelet())),
                "color": Out(5),
                "waiting": In(1),
                "value": In(signed(32)),
                "pop": Out(1),
                "asks": Out(1),
                "busy": Out(1),
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
        s = _Signals()
        self._issue(m, s)
        self._feed(m, s)
        self._read_sums(m, s)
        self._select(m, s)
        self._write_back(m, s)
        self._measure(m, s)
        return m

    def _issue(self, m: Module, s: _Signals) -> None:
        """Take an instruction, and move its steps through the stages of the pipe."""
        m.submodules.steps = s.steps
        m.submodules.dot = s.dot
        m.submodules.requantizer = s.requantizer
        m.submodules.rotate = s.rotate
        m.submodules.exponential = s.exponential
        m.submodules.gate = s.gate
        wiring.connect(m, wiring.flipped(self.read_a), s.steps.read_a)
        wiring.connect(m, wiring.flipped(self.read_b), s.steps.read_b)

        # --- instructions ---
        m.d.comb += [
            s.travelling.eq(Cat(tag.valid for tag in s.tags[1:]).any()),
            self.busy.eq(s.steps.busy | s.travelling),
            # Stage 1 uses the instruction: operands of earlier steps must have left it.
            self.i.ready.eq(
                ~s.steps.busy
                & (
                    ~s.travelling
                    | (s.enable & (self.i.payload.op == s.now.op) & (self.i.payload.count != 0))
                )
            ),
            s.steps.operation.eq(s.now),
            s.steps.start.eq(self.i.valid & self.i.ready),
            s.steps.starting.eq(self.i.payload),
            s.steps.enable.eq(s.enable),
            self.steps.eq(s.steps.step.valid),
            self.starved.eq(
                s.steps.busy & s.enable & s.steps.fed & ~s.steps.step.valid & ~s.steps.empty
            ),
            self.unfed.eq(s.steps.busy & s.enable & ~s.steps.fed & ~s.steps.empty),
            self.asks.eq(s.steps.busy & (s.now.op == Op.MOVE) & s.now.tail.accumulate),
            self.color.eq(s.now.tail.bits),
            self.pop.eq(self.asks & s.steps.step.valid),
            s.steps.fed.eq(~self.asks | self.waiting),
            s.tags[0].eq(s.steps.step),
        ]
        with m.If(s.steps.start):
            m.d.sync += s.now.eq(self.i.payload)
        with m.If(s.enable & (s.steps.step.valid | s.travelling)):
            for before, behind in pairwise(s.tags):
                m.d.sync += behind.eq(before)

    def _feed(self, m: Module, s: _Signals) -> None:
        """Feed the engines with the operands of the step in stage 1."""
        at = s.tags[1]
        a = Signal(64)
        b = Signal(32)
        a_value = Signal(signed(32))
        m.submodules.held = held = memory.Memory(shape=unsigned(64), depth=HELD_WORDS, init=[])
        held_write, held_read = held.write_port(), held.read_port(domain="comb")
        activations = Signal(64)
        m.d.comb += [
            held_write.en.eq(s.enable & at.valid & at.keep),
            held_write.addr.eq(at.slot),
            held_write.data.eq(self.read_b.data),
            held_read.addr.eq(at.slot),
            activations.eq(Mux(at.held, held_read.data, self.read_b.data)),
            a.eq(self.read_a.data >> Cat(Const(0, 3), at.a_place)),
            b.eq(Mux(at.b_place[2], self.read_b.data[32:], self.read_b.data[:32])),
        ]
        with m.Switch(s.now.tail.a_type):
            with m.Case(Type.INT8):
                m.d.comb += a_value.eq(a[:8].as_signed())
            with m.Case(Type.INT16):
                m.d.comb += a_value.eq(a[:16].as_signed())
            with m.Default():
                m.d.comb += a_value.eq(a[:32].as_signed())
        m.d.comb += [
            s.dot.enable.eq(s.enable & at.valid & (s.now.op == Op.MATVEC)),
            s.dot.is_unsigned.eq(s.now.tail.unsigned),
            s.dot.weights.eq(self.read_a.data),
            s.dot.activations.eq(activations),
            self.macs.eq(Mux(s.dot.enable & ~at.zero, 8, 0)),
            s.requantizer.enable.eq(s.enable & (s.now.op == Op.REQUANTIZE) & s.travelling),
            s.requantizer.value.eq(a_value),
            s.requantizer.word.eq(Mux(s.now.tail.static_memory, b, s.now.scalar)[:22]),
            s.requantizer.dynamic.eq(s.now.dynamic),
            s.requantizer.bits.eq(s.now.tail.bits),
            s.rotate.enable.eq(s.enable & (s.now.op == Op.ROTATE) & s.travelling),
            s.rotate.a.eq(a[:16]),
            s.rotate.b.eq(a[16:32]),
            s.rotate.cosine.eq(b[:16]),
            s.rotate.sine.eq(b[16:]),
            s.exponential.enable.eq(s.enable & (s.now.op == Op.EXPONENTIAL) & s.travelling),
            s.exponential.distance.eq(s.now.scalar - a[:32].as_signed()),
            s.exponential.word.eq(s.now.dynamic),
            s.gate.enable.eq(s.enable & (s.now.op == Op.GATE) & s.travelling),
            s.gate.gate.eq(a[:16]),
            s.gate.up.eq(a[16:32]),
            s.gate.word.eq(s.now.dynamic),
        ]

        # A wavelet comes two cycles after its step, and waits while the pipe stalls.
        m.submodules.wavelets = wavelets = WordQueue()
        came = Signal()
        wavelet = wavelets.oldest.as_signed()
        element = Signal(signed(32), reset_less=True)
        joins, alone, largest = (
            Signal(name=name, reset_less=True) for name in ("joins", "alone", "largest")
        )
        with m.If(s.enable):
            m.d.sync += [
                element.eq(a_value),
                joins.eq(s.now.tail.accumulate),
                alone.eq(s.now.tail.a_type == Type.NONE),
                largest.eq(s.now.tail.argmax),
            ]
        m.d.sync += [came.eq(self.pop), wavelets.comes.eq(came)]
        m.d.comb += [
            wavelets.word.eq(self.value),
            wavelets.take.eq(
                s.enable & s.tags[STAGES[Op.MOVE]].valid & (s.now.op == Op.MOVE) & joins
            ),
            s.joined.eq(Mux(joins, element + wavelet, element)),
        ]
        with m.If(joins & (alone | (largest & (wavelet > element)))):
            m.d.comb += s.joined.eq(wavelet)
        with m.Elif(joins & largest):
            m.d.comb += s.joined.eq(element)

    def _read_sums(self, m: Module, s: _Signals) -> None:
        """Keep the two sums that ``read_b`` showed for results that accumulate."""
        sums_shown = Signal()
        with m.If(s.enable):
            m.d.sync += sums_shown.eq(s.steps.reads_sums)
            with m.If(sums_shown):
                m.d.sync += s.pair.eq(self.read_b.data)

    def _select(self, m: Module, s: _Signals) -> None:
        """Select the result of the instruction's engine."""
        sums = Signal(signed(32), reset_less=True)
        term = Signal(signed(32))
        row = Signal(signed(32))
        last_dot = s.tags[STAGES[Op.MATVEC]]
        m.d.comb += [
            term.eq(Mux(last_dot.zero, 0, Mux(last_dot.high, s.dot.total << 8, s.dot.total))),
            row.eq(Mux(last_dot.first, term, sums + term)),
        ]
        with m.If(s.enable & last_dot.valid & (s.now.op == Op.MATVEC)):
            m.d.sync += sums.eq(row)
        rotated_a = planes(m, s.rotate.rotated_a, name="plane_a")
        rotated_b = planes(m, s.rotate.rotated_b, name="plane_b")
        with m.Switch(s.now.op):
            for op, stage in STAGES.items():
                with m.Case(op):
                    m.d.comb += s.out.eq(s.tags[stage])
        with m.Switch(s.now.op):
            with m.Case(Op.MATVEC):
                m.d.comb += s.value.eq(row)
                with m.If(s.out.accumulate):
                    m.d.comb += s.value.eq(row + s.pair.word_select(s.out.d[2], 32))
            with m.Case(Op.REQUANTIZE):
                m.d.comb += s.value.eq(s.requantizer.result)
            with m.Case(Op.ROTATE):
                high = Cat(rotated_a[0], rotated_b[0])
                low = Cat(rotated_a[1], rotated_b[1])
                m.d.comb += s.value.eq(Mux(s.out.high, high, low))
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += s.value.eq(Mux(s.out.zero, 0, s.exponential.power))
            with m.Case(Op.GATE):
                m.d.comb += s.value.eq(s.gate.result)
            with m.Case(Op.MOVE):
                m.d.comb += s.value.eq(s.joined)

    def _write_back(self, m: Module, s: _Signals) -> None:
        """Send the result to a color, write it to the SRAM, or both at once."""
        sends = Signal()
        writes = Signal()
        m.d.comb += [
            sends.eq(s.out.valid & s.out.emit & s.out.to_color),
            writes.eq(
                s.out.valid
                & s.out.emit
                & (~s.out.to_color | (s.now.op == Op.MOVE))
                & (s.out.type != Type.NONE)
            ),
            self.blocked.eq((sends & ~self.o.ready) | (writes & ~self.write.ready)),
            s.enable.eq(~self.blocked),
            s.leaves.eq(s.out.valid & s.enable),
            # A result for memory and a color goes to both in one cycle.
            self.o.valid.eq(sends & (~writes | self.write.ready)),
            self.o.payload.control.eq(s.out.last & s.out.control),
            self.o.payload.data.eq(s.value),
            self.o.payload.color.eq(s.out.color),
            self.write_waits.eq(writes & ~s.out.to_color),
            self.write.valid.eq(writes & (~sends | self.o.ready)),
            self.write.address.eq(s.out.d[3:]),
        ]
        place = s.out.d[:3]
        with m.Switch(s.out.type):
            with m.Case(Type.INT8):
                m.d.comb += [
                    self.write.data.eq(Cat(s.value[:8] for _ in range(8))),
                    self.write.mask.eq(1 << place),
                ]
            with m.Case(Type.INT16):
                m.d.comb += [
                    self.write.data.eq(Cat(s.value[:16] for _ in range(4))),
                    self.write.mask.eq(3 << (place & 6)),
                ]
            with m.Default():
                m.d.comb += [
                    self.write.data.eq(Cat(s.value, s.value)),
                    self.write.mask.eq(Mux(place[2], 0xF0, 0x0F)),
                ]

    def _measure(self, m: Module, s: _Signals) -> None:
        """Update the statistic of the instruction with the result."""
        statistic = Signal(signed(32))
        before = Signal(signed(32))
        start_value = Signal(signed(32))
        magnitude = Signal(32)
        result = Signal(signed(32))
        m.d.comb += [
            start_value.eq(Mux(s.now.op == Op.MATVEC, -(2**31), 0)),
            before.eq(Mux(s.out.begins, start_value, statistic)),
            magnitude.eq(Mux(s.value < 0, -s.value, s.value)),
        ]
        with m.Switch(s.now.op):
            with m.Case(Op.MATVEC):
                m.d.comb += result.eq(Mux(s.value > before, s.value, before))
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += result.eq(before + s.value)
            with m.Default():
                m.d.comb += result.eq(Mux(magnitude.as_signed() > before, magnitude, before))
        ending = Signal()
        final = Signal(signed(32))
        m.d.comb += [
            ending.eq(s.leaves & s.out.last),
            final.eq(Mux(s.out.emit, result, before)),
            self.statistic_valid.eq(
                (ending & s.out.statistic) | (s.steps.empty & s.now.tail.statistic)
            ),
            self.statistic.eq(Mux(s.steps.empty, start_value, final)),
        ]
        with m.If(s.leaves):
            m.d.sync += statistic.eq(final)
