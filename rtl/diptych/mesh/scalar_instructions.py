# SPDX-License-Identifier: BSD-2-Clause
"""Scalar instructions of a core."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from diptych.arith.carry_save import carry_save
from diptych.arith.functions import Function as ScaleFunctions
from diptych.arith.functions import ScaleFunction
from diptych.arith.one_hot import select
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


_TAKES = {
    Function.TAKE_RECIPROCAL: ScaleFunctions.RECIPROCAL,
    Function.TAKE_RSQRT: ScaleFunctions.RSQRT,
}
"""Functions of a wavelet."""
_LAST = {
    Function.MULTIPLY: 1,
    Function.COMBINE: 1,
    Function.STORE: 2,
    Function.TAKE: 3,
    Function.LOAD: 3,
    **dict.fromkeys(_TAKES, 3 + ScaleFunction.latency),
}
"""Last phase of a function that has more than one, but for scale functions."""
_LATE = (Function.ADD, Function.SUBTRACT, Function.MULTIPLY, Function.LESS_THAN)
"""Functions whose results are sums."""
_RESULTS = (
    *_LATE,
    Function.AND,
    Function.SHIFT_LEFT,
    Function.SHIFT_RIGHT,
    Function.SELECT,
    Function.LOAD,
    Function.TAKE,
    Function.COMBINE,
    *SCALE_FUNCTIONS,
    *_TAKES,
)
"""Functions that write a register."""
_OTHERS = {Function.SEND, *SCALE_FUNCTIONS}
"""Functions that complete otherwise."""


def execute_scalar(m: Module, s: CoreSignals) -> None:
    """Execute the scalar instruction that the core has issued.

    MULTIPLY and COMBINE take 2 cycles, STORE 3, LOAD, TAKE and the scale functions 4 (5 with an
    immediate), those of a wavelet 7; others take one, or wait for a credit. All wait for the SRAM, or for a wavelet.
    """
    imm = Signal(signed(32))
    moved = Signal(32)
    phase = Signal(3)
    # A flag per function, found with the operands.
    now = {f: Signal(name=f"is_{f.name.lower()}") for f in Function}
    phases = {n: Signal(name=f"ends_in_{n}") for n in (0, *sorted(set(_LAST.values())))}
    # A scale function; it adds an immediate first.
    scales, sums = Signal(), Signal()
    # A function that takes a wavelet; it is one of the wavelet.
    takes, of_wavelet = Signal(), Signal()
    # A function with a result for a register.
    gives = Signal()
    with m.If(s.advances):
        for f, flag in now.items():
            m.d.sync += flag.eq((s.coming.op == Op.SCALAR) & (s.coming.function == f))
        found = Cat(s.coming.function == f for f in SCALE_FUNCTIONS).any()
        m.d.sync += [
            scales.eq((s.coming.op == Op.SCALAR) & found),
            sums.eq(s.coming.tail.any()),
        ]
        for flag, functions in (
            (takes, (Function.TAKE, *_TAKES)),
            (of_wavelet, tuple(_TAKES)),
            (gives, _RESULTS),
        ):
            found = Cat(s.coming.function == f for f in functions).any()
            m.d.sync += flag.eq((s.coming.op == Op.SCALAR) & found)
        for n, flag in phases.items():
            of = [f for f in Function if f not in _OTHERS and _LAST.get(f, 0) == n]
            found = Cat(s.coming.function == f for f in of).any()
            m.d.sync += flag.eq((s.coming.op == Op.SCALAR) & found)
    # LESS_THAN subtracts the immediate: it comes flipped.
    third = Signal(32)
    with m.If(s.advances):
        m.d.sync += third.eq(
            s.coming.tail ^ (s.coming.function == Function.LESS_THAN).replicate(32)
        )
    # Registers between the cycles of an instruction: an address or an operand, a product.
    address, product = (Signal(32, name=name, reset_less=True) for name in ("address", "product"))
    factor = Mux(now[Function.COMBINE], s.b[:16], imm[:16])
    lacks_credit = Signal()
    m.d.comb += [
        imm.eq(s.instruction.tail),
        moved.eq(s.a + imm),
        s.sent.eq(moved),
        s.scale.value.eq(Mux(of_wavelet, s.buffers.head[READER], Mux(sums, address, s.a))),
        s.scale.enable.eq(s.go & (scales | of_wavelet)),
        s.sram.scalar.address.eq(address[3:]),
        s.sram.scalar_write.address.eq(address[3:]),
        s.sram.scalar_write.data.eq(Cat(s.b, s.b)),
        s.sram.scalar_write.mask.eq(Mux(address[2], 0xF0, 0x0F)),
        # Requests in the second cycle, which no fence holds any more.
        s.sram.scalar.valid.eq(now[Function.LOAD] & (phase == 1)),
        s.sram.scalar_write.valid.eq(now[Function.STORE] & (phase == 1)),
        lacks_credit.eq(~(s.sendable & s.color_bit).any()),
        # Results go first: those on the same color, and one that leaves in this cycle.
        s.can_send.eq(
            now[Function.SEND]
            & ~(s.pipe.unsent & s.color_bit).any()
            & ~s.pipe.o.valid
            & ~lacks_credit
        ),
        s.completes.eq(
            Cat(flag & (phase == n) for n, flag in phases.items()).any()
            | (scales & (phase == Mux(sums, ScaleFunction.latency + 1, ScaleFunction.latency)))
            | s.can_send
        ),
        s.send.eq(s.go & s.can_send),
        s.no_credit.eq(s.go & now[Function.SEND] & lacks_credit),
        s.no_wavelet.eq(s.go & takes & (phase == 0) & ~(s.waiting & s.color_bit).any()),
        s.take.eq(s.go & takes & (phase == 0) & (s.waiting & s.color_bit).any()),
        s.writes.eq(s.done & gives),
        s.ends.eq(s.go & now[Function.END]),
        s.branches.eq(s.go & now[Function.BRANCH] & s.a.any()),
    ]
    for f, port in (
        (Function.ACTIVATE, s.tasks.activate),
        (Function.BLOCK, s.tasks.block),
        (Function.UNBLOCK, s.tasks.unblock),
    ):
        m.d.comb += [port.task.eq(imm), port.valid.eq(s.go & now[f])]
    for f, selected in (SCALE_FUNCTIONS | _TAKES).items():
        with m.If(now[f]):
            m.d.comb += s.scale.select.eq(selected)
    loaded = Signal(32, reset_less=True)
    m.d.sync += [
        address.eq(moved),
        product.eq(s.a[:16] * factor),
        loaded.eq(s.sram.scalar.data.word_select(address[2], 32)),
    ]

    # Phases go on, but for those that wait.
    waits = (
        s.no_wavelet
        | (s.sram.scalar.valid & ~s.sram.scalar.ready)
        | (s.sram.scalar_write.valid & ~s.sram.scalar_write.ready)
    )
    with m.If(s.go & ~s.is_vector & ~now[Function.SEND] & ~waits):
        m.d.sync += phase.eq(Mux(s.done, 0, phase + 1))
    _find_result(m, s, now, moved, imm, third, product, loaded)


def _find_result(
    m: Module,
    s: CoreSignals,
    now: dict[Function, Signal],
    moved: Signal,
    imm: Signal,
    third: Signal,
    product: Signal,
    loaded: Signal,
) -> None:
    """Select the result of the function."""
    a_scale, b_scale = (data.View(ScaleWord, value[:22]) for value in (s.a, s.b))
    word = combined(m, product, a_scale.shift, b_scale.shift)
    # a + imm + b, a + imm - b, or a - (b + imm), by one addition.
    minus, less = now[Function.SUBTRACT] | now[Function.LESS_THAN], now[Function.LESS_THAN]
    a, b, c = (Signal(34, name=f"term_{name}") for name in ("a", "b", "imm"))
    total, wide_sum = Signal(34), Signal(33)
    places, carries = carry_save(m, a, b, c, name="total")
    m.d.comb += [
        a.eq(s.a),
        b.eq(s.b ^ minus.replicate(34)),
        c.eq(Cat(third, less, less)),
        # A negated term needs a 1: in the place that has no carry, and as a carry from below.
        total.eq((Cat(less, places) + Cat(less, carries | minus))[1:]),
        wide_sum.eq(s.b + imm.as_unsigned()),
    ]
    # The borrow of the difference, with what the sum is wrapped by added.
    carry, borrow = wide_sum[32], total[32:]
    results = {
        Function.ADD: total,
        Function.SUBTRACT: total,
        Function.MULTIPLY: product + s.b,
        Function.AND: s.a & (s.b | imm),
        Function.SHIFT_LEFT: s.a << imm[:5],
        Function.SHIFT_RIGHT: s.a >> imm[:5],
        Function.LESS_THAN: Mux(carry, borrow == 2, borrow != 0),
        Function.SELECT: Mux(s.chosen.any(), moved, s.b),
        Function.LOAD: loaded,
        Function.TAKE: s.buffers.head[READER],
        Function.COMBINE: word.as_value(),
        **dict.fromkeys((*SCALE_FUNCTIONS, *_TAKES), s.scale.word.as_value()),
    }
    others, is_sum = Signal(32), Signal()
    early = {f: Value.cast(result)[:32] for f, result in results.items() if f not in _LATE}
    m.d.comb += [
        others.eq(select(Cat(now[f] for f in early), list(early.values()))),
        is_sum.eq(now[Function.ADD] | now[Function.SUBTRACT]),
        # What ends with a chain of carries is known last.
        s.result.eq(
            others
            | Mux(is_sum, total[:32], 0)
            | Mux(now[Function.MULTIPLY], results[Function.MULTIPLY][:32], 0)
            | (now[Function.LESS_THAN] & results[Function.LESS_THAN])
        ),
    ]
