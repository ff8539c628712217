# SPDX-License-Identifier: BSD-2-Clause
"""The main vector pipe of a tile."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate, planes
from diptych.arith.silu import Gate

from .fabric import Wavelet
from .isa import Op, Type
from .operand_sequencer import HELD_WORDS, Step, Steps
from .operation import Operation
from .sram import ReadPort, WritePort

__all__ = ["VectorPipe"]

STAGES = {
    Op.MATVEC: 1 + Dot8.latency,
    Op.REQUANTIZE: 1 + Requantizer.latency,
    Op.ROTATE: 1 + Rotate.latency,
    Op.EXPONENTIAL: 1 + Exponential.latency,
    Op.GATE: 1 + Gate.latency,
    Op.MOVE: 1,
}
"""Cycles from the step that asks for an element's operands to its result."""


class VectorPipe(wiring.Component):
    """Carries out all vector instructions (:class:`.Op`) but RECEIVE and TRANSMIT.

    A step per cycle. The next instruction is taken in the cycle after the last step, if it is of
    the same kind and not empty, and otherwise when the last result has left; its first step comes
    a cycle later. The result of a step leaves as many cycles after its operands were asked for as
    :data:`STAGES` says. The pipe stops as a whole while its result cannot leave.

    Members
    -------
    i : :py:`In(stream.Signature(Operation()))`
        Instructions.
    read_a, read_b, write : :py:`Out(ReadPort())`, :py:`Out(WritePort())`
        To the SRAM.
    write_waits : :py:`Out(1)`
        A result goes to memory alone, and can do so now.
    o : :py:`Out(stream.Signature(Wavelet()))`
        Results that go to a color.
    color, waiting, value, pop : :py:`Out(5)`, :py:`In(1)`, :py:`In(signed(32))`, :py:`Out(1)`
        The color of an operand, whether a wavelet of it waits, the wavelet, and that it is taken.
    asks : :py:`Out(1)`
        An operand is a color.
    busy : :py:`Out(1)`
        An instruction has not ended.
    statistic_valid, statistic : :py:`Out(1)`, :py:`Out(32)`
        The statistic of an instruction that ends in this cycle.
    steps : :py:`Out(1)`
        A step is taken.
    starved : :py:`Out(1)`
        A step waits for its operands.
    unfed : :py:`Out(1)`
        A step waits for a wavelet.
    blocked : :py:`Out(1)`
        The result cannot leave.
    macs : :py:`Out(4)`
        Multiplications that this step's operands make.
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
                "i": In(stream.Signature(Operation())),
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
        m.submodules.steps = steps = Steps()
        m.submodules.dot = dot = Dot8()
        m.submodules.requantizer = requantizer = Requantizer()
        m.submodules.rotate = rotate = Rotate()
        m.submodules.exponential = exponential = Exponential()
        m.submodules.gate = gate = Gate()
        wiring.connect(m, wiring.flipped(self.read_a), steps.read_a)
        wiring.connect(m, wiring.flipped(self.read_b), steps.read_b)

        # --- instructions ---
        now = Signal(Operation())
        depth = max(STAGES.values())
        tags = [Signal(Step(), name=f"tag_{n}") for n in range(depth + 1)]
        enable = Signal()
        travelling = Signal()
        m.d.comb += [
            travelling.eq(Cat(tag.valid for tag in tags[1:]).any()),
            self.busy.eq(steps.busy | travelling),
            # What the steps before read has left stage 1, which looks at the instruction.
            self.i.ready.eq(
                ~steps.busy
                & (
                    ~travelling
                    | (enable & (self.i.payload.op == now.op) & (self.i.payload.count != 0))
                )
            ),
            steps.operation.eq(now),
            steps.start.eq(self.i.valid & self.i.ready),
            steps.starting.eq(self.i.payload),
            steps.enable.eq(enable),
            self.steps.eq(steps.step.valid),
            self.starved.eq(steps.busy & enable & steps.fed & ~steps.step.valid & ~steps.empty),
            self.unfed.eq(steps.busy & enable & ~steps.fed & ~steps.empty),
            self.asks.eq(steps.busy & (now.op == Op.MOVE) & now.tail.accumulate),
            self.color.eq(now.tail.bits),
            self.pop.eq(self.asks & steps.step.valid),
            steps.fed.eq(~self.asks | self.waiting),
            tags[0].eq(steps.step),
        ]
        with m.If(steps.start):
            m.d.sync += now.eq(self.i.payload)
        with m.If(enable & (steps.step.valid | travelling)):
            for before, behind in pairwise(tags):
                m.d.sync += behind.eq(before)

        # --- operands: the tag of stage 1 says where in the words they are ---
        at = tags[1]
        a = Signal(64)
        b = Signal(32)
        a_value = Signal(signed(32))
        m.submodules.held = held = memory.Memory(shape=unsigned(64), depth=HELD_WORDS, init=[])
        held_write, held_read = held.write_port(), held.read_port(domain="comb")
        activations = Signal(64)
        m.d.comb += [
            held_write.en.eq(enable & at.valid & at.keep),
            held_write.addr.eq(at.slot),
            held_write.data.eq(self.read_b.data),
            held_read.addr.eq(at.slot),
            activations.eq(Mux(at.held, held_read.data, self.read_b.data)),
            a.eq(self.read_a.data >> Cat(Const(0, 3), at.a_place)),
            b.eq(Mux(at.b_place[2], self.read_b.data[32:], self.read_b.data[:32])),
        ]
        with m.Switch(now.tail.a_type):
            with m.Case(Type.INT8):
                m.d.comb += a_value.eq(a[:8].as_signed())
            with m.Case(Type.INT16):
                m.d.comb += a_value.eq(a[:16].as_signed())
            with m.Default():
                m.d.comb += a_value.eq(a[:32].as_signed())
        m.d.comb += [
            dot.enable.eq(enable & at.valid & (now.op == Op.MATVEC)),
            dot.is_unsigned.eq(now.tail.unsigned),
            dot.weights.eq(self.read_a.data),
            dot.activations.eq(activations),
            self.macs.eq(Mux(dot.enable & ~at.zero, 8, 0)),
            requantizer.enable.eq(enable & (now.op == Op.REQUANTIZE) & travelling),
            requantizer.value.eq(a_value),
            requantizer.word.eq(Mux(now.tail.static_memory, b, now.scalar)[:22]),
            requantizer.dynamic.eq(now.dynamic),
            requantizer.bits.eq(now.tail.bits),
            rotate.enable.eq(enable & (now.op == Op.ROTATE) & travelling),
            rotate.a.eq(a[:16]),
            rotate.b.eq(a[16:32]),
            rotate.cosine.eq(b[:16]),
            rotate.sine.eq(b[16:]),
            exponential.enable.eq(enable & (now.op == Op.EXPONENTIAL) & travelling),
            exponential.distance.eq(now.scalar - a[:32].as_signed()),
            exponential.word.eq(now.dynamic),
            gate.enable.eq(enable & (now.op == Op.GATE) & travelling),
            gate.gate.eq(a[:16]),
            gate.up.eq(a[16:32]),
            gate.word.eq(now.dynamic),
        ]

        wavelet = Signal(signed(32), reset_less=True)
        joined = Signal(signed(32))
        with m.If(self.pop):
            m.d.sync += wavelet.eq(self.value)
        m.d.comb += joined.eq(a_value)
        with m.If(now.tail.accumulate):
            m.d.comb += joined.eq(a_value + wavelet)
            with m.If((now.tail.a_type == Type.NONE) | (now.tail.argmax & (wavelet > a_value))):
                m.d.comb += joined.eq(wavelet)
            with m.Elif(now.tail.argmax):
                m.d.comb += joined.eq(a_value)

        # --- what results are added to: two sums, in the cycle after they were read ---
        sums_shown = Signal()
        pair = Signal(64, reset_less=True)
        with m.If(enable):
            m.d.sync += sums_shown.eq(steps.reads_sums)
            with m.If(sums_shown):
                m.d.sync += pair.eq(self.read_b.data)

        # --- results ---
        out = Signal(Step())
        value = Signal(signed(32))
        sums = Signal(signed(32), reset_less=True)
        term = Signal(signed(32))
        row = Signal(signed(32))
        last_dot = tags[STAGES[Op.MATVEC]]
        m.d.comb += [
            term.eq(Mux(last_dot.zero, 0, Mux(last_dot.high, dot.total << 8, dot.total))),
            row.eq(Mux(last_dot.first, term, sums + term)),
        ]
        with m.If(enable & last_dot.valid & (now.op == Op.MATVEC)):
            m.d.sync += sums.eq(row)
        rotated_a = planes(m, rotate.rotated_a, name="plane_a")
        rotated_b = planes(m, rotate.rotated_b, name="plane_b")
        with m.Switch(now.op):
            for op, stage in STAGES.items():
                with m.Case(op):
                    m.d.comb += out.eq(tags[stage])
        with m.Switch(now.op):
            with m.Case(Op.MATVEC):
                m.d.comb += value.eq(row)
                with m.If(out.accumulate):
                    m.d.comb += value.eq(row + pair.word_select(out.d[2], 32))
            with m.Case(Op.REQUANTIZE):
                m.d.comb += value.eq(requantizer.result)
            with m.Case(Op.ROTATE):
                high = Cat(rotated_a[0], rotated_b[0])
                low = Cat(rotated_a[1], rotated_b[1])
                m.d.comb += value.eq(Mux(out.high, high, low))
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += value.eq(Mux(out.zero, 0, exponential.power))
            with m.Case(Op.GATE):
                m.d.comb += value.eq(gate.result)
            with m.Case(Op.MOVE):
                m.d.comb += value.eq(joined)

        sends = Signal()
        writes = Signal()
        leaves = Signal()
        m.d.comb += [
            sends.eq(out.valid & out.emit & out.to_color),
            writes.eq(
                out.valid
                & out.emit
                & (~out.to_color | (now.op == Op.MOVE))
                & (out.type != Type.NONE)
            ),
            self.blocked.eq((sends & ~self.o.ready) | (writes & ~self.write.ready)),
            enable.eq(~self.blocked),
            leaves.eq(out.valid & enable),
            # What goes to both goes to both at once.
            self.o.valid.eq(sends & (~writes | self.write.ready)),
            self.o.payload.control.eq(out.last & out.control),
            self.o.payload.data.eq(value),
            self.o.payload.color.eq(out.color),
            self.write_waits.eq(writes & ~out.to_color),
            self.write.valid.eq(writes & (~sends | self.o.ready)),
            self.write.address.eq(out.d[3:]),
        ]
        place = out.d[:3]
        with m.Switch(out.type):
            with m.Case(Type.INT8):
                m.d.comb += [
                    self.write.data.eq(Cat(value[:8] for _ in range(8))),
                    self.write.mask.eq(1 << place),
                ]
            with m.Case(Type.INT16):
                m.d.comb += [
                    self.write.data.eq(Cat(value[:16] for _ in range(4))),
                    self.write.mask.eq(3 << (place & 6)),
                ]
            with m.Default():
                m.d.comb += [
                    self.write.data.eq(Cat(value, value)),
                    self.write.mask.eq(Mux(place[2], 0xF0, 0x0F)),
                ]

        # --- statistic ---
        statistic = Signal(signed(32))
        before = Signal(signed(32))
        start_value = Signal(signed(32))
        magnitude = Signal(32)
        result = Signal(signed(32))
        m.d.comb += [
            start_value.eq(Mux(now.op == Op.MATVEC, -(2**31), 0)),
            before.eq(Mux(out.begins, start_value, statistic)),
            magnitude.eq(Mux(value < 0, -value, value)),
        ]
        with m.Switch(now.op):
            with m.Case(Op.MATVEC):
                m.d.comb += result.eq(Mux(value > before, value, before))
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += result.eq(before + value)
            with m.Default():
                m.d.comb += result.eq(Mux(magnitude.as_signed() > before, magnitude, before))
        ending = Signal()
        final = Signal(signed(32))
        m.d.comb += [
            ending.eq(leaves & out.last),
            final.eq(Mux(out.emit, result, before)),
            self.statistic_valid.eq((ending & out.statistic) | (steps.empty & now.tail.statistic)),
            self.statistic.eq(Mux(steps.empty, start_value, final)),
        ]
        with m.If(leaves):
            m.d.sync += statistic.eq(final)
        return m
