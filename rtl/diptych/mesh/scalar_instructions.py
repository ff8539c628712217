# SPDX-License-Identifier: BSD-2-Clause
"""Scalar instructions of a core."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data

from diptych.arith.functions import Function as ScaleFunctions
from diptych.arith.functions import ScaleFunction
from diptych.arith.scale import ScaleWord, combined

from .core_signals import CoreSignals
from .isa import Function, Op

__all__ = ["execute_scalar"]

READER = 1
"""Reader of arriving wavelets that TAKE shares with the vector pipe."""

SCALE_FUNCTIONS = {
    Function.RECIPROCAL: ScaleFunctions.RECIPROCAL,
    Function.RSQRT: ScaleFunctions.RSQRT,
    Function.TO_SCALE: ScaleFunctions.TO_SCALE,
}


_COMPLETES = {
    "in_second": (Function.MULTIPLY, Function.COMBINE),
    "in_third": (Function.TAKE, Function.STORE),
    "in_fourth": (Function.LOAD,),
    "in_last": tuple(SCALE_FUNCTIONS),
}
_COMPLETES["at_once"] = tuple(
    f for f in Function if f not in {Function.SEND}.union(*_COMPLETES.values())
)
"""In which of its cycles a function completes, but for SEND."""


def execute_scalar(m: Module, s: CoreSignals) -> None:
    """Execute the scalar instruction that the core has issued.

    MULTIPLY and COMBINE take 2 cycles, STORE and TAKE 3, LOAD 4 and the scale functions 5; others
    take one, or wait for a credit. All wait for the SRAM, or for a wavelet.
    """
    imm = Signal(signed(32))
    moved = Signal(32)
    phase = Signal(3)
    is_now = {
        f: s.instruction.function == f for f in (Function.LOAD, Function.STORE, Function.SEND)
    }
    # Registers between the cycles of an instruction: an address or an operand, a product.
    address, product = (Signal(32, name=name, reset_less=True) for name in ("address", "product"))
    combines = s.instruction.function == Function.COMBINE
    factor = Mux(combines, s.b[:16], imm[:16])
    word = combined(
        m, product, data.View(ScaleWord, s.a[:22]).shift, data.View(ScaleWord, s.b[:22]).shift
    )
    # Borrows of ``a - (b + imm)`` in two parts, of which none waits for the other.
    wide_difference, wide_sum = Signal(34), Signal(33)
    m.d.comb += [
        imm.eq(s.instruction.tail),
        moved.eq(s.a + imm),
        s.sent.eq(moved),
        wide_sum.eq(s.b + imm.as_unsigned()),
        wide_difference.eq(s.a - s.b - imm.as_unsigned()),
        s.scale.value.eq(address),
        s.sram.scalar.address.eq(address[3:]),
        s.sram.scalar_write.address.eq(address[3:]),
        s.sram.scalar_write.data.eq(Cat(s.b, s.b)),
        s.sram.scalar_write.mask.eq(Mux(address[2], 0xF0, 0x0F)),
        s.tasks.activate.task.eq(imm),
        s.tasks.block.task.eq(imm),
        s.tasks.unblock.task.eq(imm),
    ]
    m.d.sync += [address.eq(moved), product.eq(s.a[:16] * factor)]
    # Requests of instructions in their second cycle, which no fence holds any more.
    no_credit = Signal(name="lacks_credit")
    m.d.comb += [
        s.sram.scalar.valid.eq(is_now[Function.LOAD] & (phase == 1)),
        s.sram.scalar_write.valid.eq(is_now[Function.STORE] & (phase == 1)),
    ]

    # How the instruction completes: at once, in a phase, or when it is sent.
    flags = {name: Signal(name=name) for name in ("at_once", "in_second", "in_third", "in_fourth")}
    flags["in_last"] = Signal(name="in_last")
    for name, functions in _COMPLETES.items():
        now = (s.coming.op == Op.SCALAR) & Cat(s.coming.function == f for f in functions).any()
        with m.If(s.moves):
            m.d.sync += flags[name].eq(now)
    m.d.comb += [
        s.completes.eq(
            flags["at_once"]
            | (flags["in_second"] & (phase == 1))
            | (flags["in_third"] & (phase == 2))
            | (flags["in_fourth"] & (phase == 3))
            | (flags["in_last"] & (phase == ScaleFunction.latency + 1))
            | s.can_send
        ),
        s.send.eq(s.go & s.can_send),
        s.can_send.eq(is_now[Function.SEND] & ~s.is_vector & ~s.pipe.busy & ~no_credit),
        no_credit.eq(~(s.sendable & s.color_bit).any()),
    ]

    # A wavelet is the last one to be known.
    computed = Signal(32)
    m.d.comb += s.result.eq(Mux(flags["in_third"], s.buffers.head[READER], computed))
    carry, borrow = wide_sum[32], wide_difference[32:]
    results = {
        Function.ADD: s.a + imm + s.b,
        Function.SUBTRACT: s.a + imm - s.b,
        Function.MULTIPLY: product + s.b,
        Function.AND: s.a & (s.b | imm),
        Function.SHIFT_LEFT: s.a << imm[:5],
        Function.SHIFT_RIGHT: s.a >> imm[:5],
        # Negative, with what the sum is wrapped by added.
        Function.LESS_THAN: Mux(carry, borrow == 2, borrow != 0),
        Function.SELECT: Mux(s.chosen.any(), moved, s.b),
        Function.LOAD: product,
        Function.COMBINE: word.as_value(),
        **dict.fromkeys(SCALE_FUNCTIONS, s.scale.word.as_value()),
    }
    with m.Switch(s.instruction.function):
        for function, result in results.items():
            with m.Case(function):
                m.d.comb += computed.eq(result)
    stores = Signal()
    with m.If(s.moves):
        m.d.sync += stores.eq(Cat(s.coming.function == f for f in (*results, Function.TAKE)).any())

    with m.If(s.go & ~s.is_vector):
        # Phases go on, but for those that wait.
        m.d.sync += phase.eq(Mux(s.done, 0, phase + 1))
        m.d.comb += s.writes.eq(s.done & stores)
        with m.Switch(s.instruction.function):
            with m.Case(Function.END):
                m.d.comb += s.ends.eq(1)
            with m.Case(Function.LOAD):
                with m.If((phase == 1) & ~s.sram.scalar.ready):
                    m.d.sync += phase.eq(1)
                with m.If(phase == 2):
                    m.d.sync += product.eq(s.sram.scalar.data.word_select(address[2], 32))
            with m.Case(Function.STORE):
                with m.If((phase == 1) & ~s.sram.scalar_write.ready):
                    m.d.sync += phase.eq(1)
            with m.Case(*SCALE_FUNCTIONS):
                m.d.comb += s.scale.enable.eq(1)
            with m.Case(Function.SEND):
                m.d.comb += s.no_credit.eq(no_credit)
                m.d.sync += phase.eq(0)
            with m.Case(Function.TAKE):
                m.d.comb += [
                    s.no_wavelet.eq((phase == 0) & ~(s.waiting & s.color_bit).any()),
                    s.take.eq((phase == 0) & ~s.no_wavelet),
                ]
                with m.If((phase == 0) & ~s.take):
                    m.d.sync += phase.eq(0)
            with m.Case(Function.BRANCH):
                m.d.comb += s.branches.eq(s.a.any())
            with m.Case(Function.ACTIVATE):
                m.d.comb += s.tasks.activate.valid.eq(1)
            with m.Case(Function.BLOCK):
                m.d.comb += s.tasks.block.valid.eq(1)
            with m.Case(Function.UNBLOCK):
                m.d.comb += s.tasks.unblock.valid.eq(1)
    with m.Switch(s.instruction.function):
        for function, selected in SCALE_FUNCTIONS.items():
            with m.Case(function):
                m.d.comb += s.scale.select.eq(selected)
