# SPDX-License-Identifier: BSD-2-Clause
"""The loops of a vector instruction."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .isa import Op, Type
from .operation import ADDRESS_BITS, Operation
from .sram import ReadPort

__all__ = ["HELD_WORDS", "Step", "Steps"]

HELD_WORDS = 8
"""Words of X that a MATVEC reads once."""


class Step(data.StructLayout):
    """One pass of the innermost loop.

    Members
    -------
    valid, first, last : 1 bit
        It is one, the first of its row, the last of its instruction.
    emit : 1 bit
        A result leaves.
    zero : 1 bit
        The operands count as 0.
    high : 1 bit
        The product counts 256 times (MATVEC), or the high plane leaves (ROTATE).
    a_place, b_place : 3 bits
        Bytes into the words that were read.
    d, type : 16 bits, :class:`.Type`
        Where the result goes, and as what.
    begins : 1 bit
        It is the first of its instruction.
    held, slot : 1 bit, 3 bits
        B is not on the port but in a slot of the buffer.
    keep : 1 bit
        B is on the port, and the buffer keeps it.
    accumulate, to_color, color, statistic, control
        As of the instruction.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": 1,
                "first": 1,
                "last": 1,
                "emit": 1,
                "zero": 1,
                "high": 1,
                "a_place": 3,
                "b_place": 3,
                "d": ADDRESS_BITS,
                "type": Type,
                "begins": 1,
                "held": 1,
                "slot": range(HELD_WORDS),
                "keep": 1,
                "accumulate": 1,
                "to_color": 1,
                "color": 5,
                "statistic": 1,
                "control": 1,
            }
        )


class Steps(wiring.Component):
    """Walks through the loops of an instruction and asks for its operands.

    A step per cycle, starting in the cycle after ``start``. A word that the previous step read is
    not read again, nor are up to :data:`HELD_WORDS` words of X in all rows but the first.

    Members
    -------
    start, starting : :py:`In(1)`, :py:`In(Operation())`
        An instruction starts; only while not ``busy``.
    operation : :py:`In(Operation())`
        The instruction, from the next cycle on.
    enable : :py:`In(1)`
        While low, nothing moves.
    fed : :py:`In(1)`
        The step needs no wavelet, or it waits.
    read_a, read_b : :py:`Out(ReadPort())`
        To the SRAM.
    step : :py:`Out(Step())`
        The step whose operands have been granted in this cycle.
    reads_sums : :py:`Out(1)`
        ``read_b`` reads two int32 to add to, for the next results that leave.
    busy : :py:`Out(1)`
        There are steps left.
    first_cycle, empty : :py:`Out(1)`
        The first cycle of an instruction; of one without steps, which ends in it.
    """

    start: Signal
    starting: Any
    operation: Any
    enable: Signal
    fed: Signal
    read_a: Any
    read_b: Any
    step: Any
    reads_sums: Signal
    busy: Signal
    first_cycle: Signal
    empty: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "starting": In(Operation()),
                "operation": In(Operation()),
                "enable": In(1),
                "fed": In(1),
                "read_a": Out(ReadPort()),
                "read_b": Out(ReadPort()),
                "step": Out(Step()),
                "reads_sums": Out(1),
                "busy": Out(1),
                "first_cycle": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        op = self.operation
        tail = op.tail
        is_op = {o: Signal(name=f"is_{o.name.lower()}") for o in Op if o is not Op.SCALAR}
        for o, flag in is_op.items():
            m.d.comb += flag.eq(op.op == o)

        # Rows, words in a row, passes over a word; a, b and d walk along.
        rows = Signal(16)
        words = Signal(16)
        phase = Signal(2)
        a, b, d = (Signal(ADDRESS_BITS, name=name) for name in "abd")
        a_row, d_row = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        m.d.sync += self.first_cycle.eq(self.start)

        total = Signal(16)
        m.d.comb += total.eq(op.count)
        with m.If(is_op[Op.EXPONENTIAL]):
            m.d.comb += total.eq((op.count + 7) & 0xFFF8)
        m.d.comb += self.empty.eq(self.first_cycle & (total == 0))

        plane = Signal(ADDRESS_BITS)
        a_now, b_now, d_now = (Signal(ADDRESS_BITS, name=f"{name}_now") for name in "abd")
        zero = Signal()
        phases = Signal(2)
        words_last, phase_last, row_last = Signal(), Signal(), Signal()
        m.d.comb += [
            plane.eq(op.inner << 3),
            a_now.eq(a),
            b_now.eq(b),
            d_now.eq(d),
            words_last.eq(1),
            row_last.eq(rows == total - 1),
            phase_last.eq(phase == phases),
        ]
        with m.If(is_op[Op.MATVEC]):
            # High by high, high by low, low by high: only the first needs two words of memory.
            m.d.comb += [
                phases.eq(Mux(tail.planes, 2, 0)),
                zero.eq(op.inner == 0),
                words_last.eq(zero | (words == op.inner - 1)),
            ]
            with m.If(phase == 1):
                m.d.comb += b_now.eq(b + plane)
            with m.If(phase == 2):
                m.d.comb += a_now.eq(a + plane)
        with m.If(is_op[Op.ROTATE]):
            m.d.comb += [phases.eq(1), words_last.eq(words == op.inner - 1)]
            with m.If(phase == 1):
                m.d.comb += d_now.eq(d + (op.inner << 1))
        with m.If(is_op[Op.EXPONENTIAL]):
            m.d.comb += zero.eq(rows >= op.count)

        step = self.step

        # --- operands; a granted one is kept until the other is granted, too ---
        needs_a, needs_b, needs_sums = Signal(), Signal(), Signal()
        uses_b, buffers_b, held = Signal(), Signal(), Signal()
        asks_b, asks_sums, has_sums = Signal(), Signal(), Signal()
        kept = Signal(HELD_WORDS)
        slot = Signal(range(HELD_WORDS))
        sums_known, sums_word = Signal(), Signal(ADDRESS_BITS - 3)
        emit = Signal()
        a_word, b_word = Signal(ADDRESS_BITS - 3), Signal(ADDRESS_BITS - 3)
        a_known, b_known = Signal(), Signal()
        has_a, has_b = Signal(), Signal()
        no_a = Signal()
        active = Signal()
        m.d.comb += [
            no_a.eq(zero | (is_op[Op.MOVE] & (tail.a_type == Type.NONE))),
            needs_a.eq(~no_a & ~(a_known & (a_word == a_now[3:]))),
            emit.eq(~is_op[Op.MATVEC] | (words_last & phase_last)),
            slot.eq(b_now[3:]),
            buffers_b.eq(
                is_op[Op.MATVEC] & (op.inner <= Mux(tail.planes, HELD_WORDS // 2, HELD_WORDS))
            ),
            held.eq(buffers_b & kept.bit_select(slot, 1)),
            uses_b.eq(
                ~zero
                & (
                    is_op[Op.MATVEC]
                    | is_op[Op.ROTATE]
                    | (is_op[Op.REQUANTIZE] & tail.static_memory)
                )
                & ~held
            ),
            needs_b.eq(uses_b & ~(b_known & (b_word == b_now[3:]))),
            # Sums come ahead while B's port is free; else they take its turn before a row ends.
            needs_sums.eq(
                is_op[Op.MATVEC]
                & tail.accumulate
                & ~(sums_known & (sums_word == d_now[3:]))
                & (emit | ~uses_b)
            ),
            asks_sums.eq(active & self.enable & needs_sums),
            asks_b.eq(active & self.enable & needs_b & ~needs_sums),
            self.reads_sums.eq(asks_sums & self.read_b.ready),
            active.eq(self.busy & (total != 0)),
            self.read_a.valid.eq(active & self.enable & needs_a),
            self.read_b.valid.eq(asks_b | asks_sums),
            self.read_a.address.eq(a_now[3:]),
            self.read_b.address.eq(Mux(needs_sums, d_now[3:], b_now[3:])),
            has_a.eq(~needs_a | self.read_a.ready),
            has_b.eq(~needs_b | (asks_b & self.read_b.ready)),
            has_sums.eq(~needs_sums | (~uses_b & (self.read_b.ready | ~emit))),
        ]
        with m.If(self.read_a.valid & self.read_a.ready):
            m.d.sync += [a_known.eq(1), a_word.eq(a_now[3:])]
        with m.If(asks_b & self.read_b.ready):
            m.d.sync += [b_known.eq(1), b_word.eq(b_now[3:])]
        with m.If(self.reads_sums):
            m.d.sync += [b_known.eq(0), sums_known.eq(1), sums_word.eq(d_now[3:])]
        with m.If(step.valid & step.keep):
            m.d.sync += kept.eq(kept | (1 << slot))

        last = Signal()
        m.d.comb += [
            last.eq(row_last & (is_op[Op.ROTATE] | words_last) & phase_last),
            step.valid.eq(active & self.enable & self.fed & has_a & has_b & has_sums),
            step.first.eq((words == 0) & (phase == 0)),
            step.emit.eq(emit),
            step.begins.eq((rows == 0) & (words == 0) & (phase == 0)),
            step.held.eq(held),
            step.slot.eq(slot),
            step.keep.eq(buffers_b & ~held & ~zero),
            step.accumulate.eq(is_op[Op.MATVEC] & tail.accumulate),
            step.to_color.eq(tail.to_color),
            step.color.eq(tail.color),
            step.statistic.eq(tail.statistic),
            step.control.eq(op.control),
            step.last.eq(last),
            step.zero.eq(zero),
            step.high.eq((phase == 0) & (is_op[Op.ROTATE] | tail.planes)),
            step.a_place.eq(a_now[:3]),
            step.b_place.eq(b_now[:3]),
            step.d.eq(d_now),
            step.type.eq(tail.d_type),
        ]
        size_d = Signal(3)
        m.d.comb += size_d.eq(4)
        with m.Switch(op.op):
            with m.Case(Op.ROTATE, Op.GATE):
                m.d.comb += [step.type.eq(Type.INT16), size_d.eq(2)]
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += [step.type.eq(Type.INT8), size_d.eq(1)]
            with m.Case(Op.REQUANTIZE, Op.MOVE):
                m.d.comb += size_d.eq(1 << tail.d_type.as_value())
            with m.Case(Op.MATVEC):
                m.d.comb += step.type.eq(Type.INT32)
        size_a = Signal(3)
        typed = is_op[Op.REQUANTIZE] | is_op[Op.MOVE]
        m.d.comb += size_a.eq(Mux(typed, 1 << tail.a_type.as_value(), 4))

        with m.If(step.valid):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase_last):
                m.d.sync += [phase.eq(0), words.eq(words + 1), a.eq(a + 8), b.eq(b + 8)]
                with m.If(~is_op[Op.MATVEC]):
                    m.d.sync += [
                        rows.eq(rows + 1),
                        a.eq(a + size_a),
                        b.eq(b + 4),
                        d.eq(d + size_d),
                    ]
                with m.If(words_last):
                    m.d.sync += words.eq(0)
                    with m.If(is_op[Op.MATVEC]):
                        m.d.sync += [
                            rows.eq(rows + 1),
                            a.eq(a_row + op.stride),
                            a_row.eq(a_row + op.stride),
                            b.eq(op.b),
                            d.eq(d + size_d),
                        ]
                    with m.If(is_op[Op.ROTATE]):
                        m.d.sync += [
                            b.eq(op.b),
                            d.eq(d_row + op.stride),
                            d_row.eq(d_row + op.stride),
                        ]
        with m.If((step.valid & last) | self.empty):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1),
                rows.eq(0),
                words.eq(0),
                phase.eq(0),
                a.eq(self.starting.a),
                a_row.eq(self.starting.a),
                b.eq(self.starting.b),
                d.eq(self.starting.d),
                d_row.eq(self.starting.d),
                a_known.eq(0),
                b_known.eq(0),
                sums_known.eq(0),
                kept.eq(0),
            ]
        return m
