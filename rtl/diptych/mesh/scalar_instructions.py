# SPDX-License-Identifier: BSD-2-Clause
"""Scalar instructions of a core."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data

from diptych.arith.functions import Function as ScaleFunctions
from diptych.arith.functions import ScaleFunction
from diptych.arith.scale import ScaleWord, combine

from .core_signals import CoreSignals
from .isa import Function

__all__ = ["execute_scalar"]

READER = 1
"""Reader of arriving wavelets that TAKE shares with the vector pipe."""

SCALE_FUNCTIONS = {
    Function.RECIPROCAL: ScaleFunctions.RECIPROCAL,
    Function.RSQRT: ScaleFunctions.RSQRT,
    Function.TO_SCALE: ScaleFunctions.TO_SCALE,
}


def execute_scalar(m: Module, s: CoreSignals) -> None:
    """Execute the scalar instruction that the core has issued.

    LOAD takes 2 cycles, TAKE 3 and the scale functions 4; others take one, or wait for the SRAM, a credit
    or a wavelet.
    """
    imm = Signal(signed(32))
    moved = Signal(32)
    phase = Signal(2)
    m.d.comb += [
        imm.eq(s.instruction.tail),
        moved.eq(s.a + imm),
        s.scale.value.eq(moved),
        s.sram.scalar.address.eq(moved[3:]),
        s.sram.scalar_write.address.eq(moved[3:]),
        s.sram.scalar_write.data.eq(Cat(s.b, s.b)),
        s.sram.scalar_write.mask.eq(Mux(moved[2], 0xF0, 0x0F)),
        s.tasks.activate.task.eq(imm),
        s.tasks.block.task.eq(imm),
        s.tasks.unblock.task.eq(imm),
    ]
    with m.If(s.go & ~s.is_vector):
        m.d.comb += [s.done.eq(1), s.writes.eq(1)]
        with m.Switch(s.instruction.function):
            with m.Case(Function.END):
                m.d.comb += [s.ends.eq(1), s.writes.eq(0)]
            with m.Case(Function.ADD):
                m.d.comb += s.result.eq(moved + s.b)
            with m.Case(Function.SUBTRACT):
                m.d.comb += s.result.eq(moved - s.b)
            with m.Case(Function.MULTIPLY):
                m.d.comb += s.result.eq(s.a[:16] * imm[:16] + s.b)
            with m.Case(Function.AND):
                m.d.comb += s.result.eq(s.a & (s.b | imm))
            with m.Case(Function.SHIFT_LEFT):
                m.d.comb += s.result.eq(s.a << imm[:5])
            with m.Case(Function.SHIFT_RIGHT):
                m.d.comb += s.result.eq(s.a >> imm[:5])
            with m.Case(Function.LESS_THAN):
                m.d.comb += s.result.eq(s.a < (s.b + imm)[:32])
            with m.Case(Function.SELECT):
                m.d.comb += s.result.eq(Mux(s.chosen.any(), moved, s.b))
            with m.Case(Function.LOAD):
                m.d.comb += [
                    s.sram.scalar.valid.eq(phase == 0),
                    s.done.eq(phase == 1),
                    s.writes.eq(s.done),
                    s.result.eq(s.sram.scalar.data.word_select(moved[2], 32)),
                ]
                m.d.sync += phase.eq((phase == 0) & s.sram.scalar.ready)
            with m.Case(Function.STORE):
                m.d.comb += [
                    s.sram.scalar_write.valid.eq(1),
                    s.done.eq(s.sram.scalar_write.ready),
                    s.writes.eq(0),
                ]
            for function, select in SCALE_FUNCTIONS.items():
                with m.Case(function):
                    m.d.comb += [
                        s.scale.enable.eq(1),
                        s.scale.select.eq(select),
                        s.done.eq(phase == ScaleFunction.latency),
                        s.writes.eq(s.done),
                        s.result.eq(s.scale.word.as_value()),
                    ]
                    m.d.sync += phase.eq(Mux(s.done, 0, phase + 1))
            with m.Case(Function.COMBINE):
                word = combine(m, data.View(ScaleWord, s.a[:22]), data.View(ScaleWord, s.b[:22]))
                m.d.comb += s.result.eq(word.as_value())
            with m.Case(Function.SEND):
                m.d.comb += [
                    s.result.eq(moved),
                    s.writes.eq(0),
                    s.no_credit.eq(~s.sendable.bit_select(s.color, 1)),
                    s.send.eq(~s.pipe.busy & ~s.no_credit),
                    s.done.eq(s.send),
                ]
            with m.Case(Function.TAKE):
                m.d.comb += [
                    s.result.eq(s.buffers.head[READER]),
                    s.no_wavelet.eq((phase == 0) & ~s.waiting.bit_select(s.color, 1)),
                    s.take.eq((phase == 0) & ~s.no_wavelet & ~s.pipe.pop),
                    s.done.eq(phase == 2),
                    s.writes.eq(s.done),
                ]
                m.d.sync += phase.eq(Mux(phase == 0, s.take, Mux(s.done, 0, 2)))
            with m.Case(Function.BRANCH):
                m.d.comb += s.writes.eq(0)
                with m.If(s.a.any()):
                    m.d.comb += s.next_pc.eq(imm)
            with m.Case(Function.ACTIVATE):
                m.d.comb += [s.tasks.activate.valid.eq(1), s.writes.eq(0)]
            with m.Case(Function.BLOCK):
                m.d.comb += [s.tasks.block.valid.eq(1), s.writes.eq(0)]
            with m.Case(Function.UNBLOCK):
                m.d.comb += [s.tasks.unblock.valid.eq(1), s.writes.eq(0)]
