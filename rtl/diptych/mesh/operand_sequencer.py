# SPDX-License-Identifier: BSD-2-Clause
"""Operand sequencer of the vector pipe: loop counters and operand reads."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .isa import Op, Type
from .operation import ADDRESS_BITS, VectorOperation
from .sram import ReadPort

__all__ = ["HELD_WORDS", "OperandSequencer", "Step"]

HELD_WORDS = 8
"""Words of X that a MATVEC reads once."""


class Step(data.StructLayout):
    """One iteration of the innermost loop.

    Members
    -------
    valid, first, last : 1 bit
        The step is valid; it is the first of its row; the last of its instruction.
    emit : 1 bit
        The step completes a result.
    zero : 1 bit
        The operands are taken as 0.
    high : 1 bit
        The product is weighted by 256 (MATVEC), or the result is the high plane (ROTATE).
    a_place, b_place : 3 bits
        Byte offsets of the operands in the words that were read.
    d, type : 16 bits, :class:`.Type`
        Address and type of the result.
    begins : 1 bit
        The step is the first of its instruction.
    held, slot : 1 bit, 3 bits
        Operand B is in this slot of the buffer, not on the port.
    keep : 1 bit
        Operand B is on the port, and is written to the buffer.
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


class _Signals:
    """Loop counters, addresses and conditions of a step."""

    def __init__(self) -> None:
        self.is_op = {o: Signal(name=f"is_{o.name.lower()}") for o in Op if o is not Op.SCALAR}
        # Loop counters: rows, words in a row, passes over a word; then the addresses.
        self.rows = Signal(16)
        self.words = Signal(16)
        self.phase = Signal(2)
        self.a, self.b, self.d = (Signal(ADDRESS_BITS, name=name) for name in "abd")
        a_row, d_row = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        self.a_row, self.d_row = a_row, d_row
        self.total = Signal(16)
        self.a_now, self.b_now, self.d_now = (
            Signal(ADDRESS_BITS, name=f"{name}_now") for name in "abd"
        )
        self.zero = Signal()
        self.words_last, self.phase_last = Signal(), Signal()
        self.row_last = Signal()
        # Operands: which are needed, which are on the ports, which are requested and granted.
        self.uses_b, self.buffers_b = Signal(), Signal()
        self.held = Signal()
        self.asks_b, self.asks_sums = Signal(), Signal()
        self.has_sums = Signal()
        self.kept = Signal(HELD_WORDS)
        self.slot = Signal(range(HELD_WORDS))
        sums_known, sums_word = Signal(), Signal(ADDRESS_BITS - 3)
        self.sums_known, self.sums_word = sums_known, sums_word
        self.emit = Signal()
        a_known, b_known = Signal(), Signal()
        self.a_known, self.b_known = a_known, b_known
        has_a, has_b = Signal(), Signal()
        self.has_a, self.has_b = has_a, has_b
        self.active = Signal()
        # Last step of the instruction; bytes from an element to the next.
        self.last = Signal()
        self.size_d = Signal(3)
        self.size_a = Signal(3)


class OperandSequencer(wiring.Component):
    """Iterates over the loops of an instruction, and reads its operands from the SRAM.

    A step per cycle while the SRAM grants the reads, from the cycle after ``start`` on. A word that
    the previous step read is not read again, nor are up to :data:`HELD_WORDS` words of X after
    the first row.

    Members
    -------
    start, starting : :py:`In(1)`, :py:`In(VectorOperation())`
        Starts an instruction; only while not ``busy``.
    operation : :py:`In(VectorOperation())`
        The same instruction, from the next cycle on.
    enable : :py:`In(1)`
        While low, every register holds.
    fed : :py:`In(1)`
        The step needs no wavelet, or its wavelet is there.
    read_a, read_b : :py:`Out(ReadPort())`
        Reads the SRAM.
    step : :py:`Out(Step())`
        The step whose operand reads have been granted.
    reads_sums : :py:`Out(1)`
        ``read_b`` reads two int32 sums, for the next results that accumulate.
    busy : :py:`Out(1)`
        Steps are left.
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
                "starting": In(VectorOperation()),
                "operation": In(VectorOperation()),
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
        s = _Signals()
        self._locate(m, s)
        self._read_operands(m, s)
        self._describe(m, s)
        self._advance(m, s)
        return m

    def _locate(self, m: Module, s: _Signals) -> None:
        """Addresses and position of the step, from the loop counters."""
        op = self.operation
        tail = op.tail
        for o, flag in s.is_op.items():
            m.d.comb += flag.eq(op.op == o)

        m.d.sync += self.first_cycle.eq(self.start)

        m.d.comb += s.total.eq(op.count)
        with m.If(s.is_op[Op.EXPONENTIAL]):
            m.d.comb += s.total.eq((op.count + 7) & 0xFFF8)
        m.d.comb += self.empty.eq(self.first_cycle & (s.total == 0))

        plane = Signal(ADDRESS_BITS)
        phases = Signal(2)
        m.d.comb += [
            plane.eq(op.inner << 3),
            s.a_now.eq(s.a),
            s.b_now.eq(s.b),
            s.d_now.eq(s.d),
            s.words_last.eq(1),
            s.row_last.eq(s.rows == s.total - 1),
            s.phase_last.eq(s.phase == phases),
        ]
        with m.If(s.is_op[Op.MATVEC]):
            # High by high, high by low, low by high: only the first needs two words of memory.
            m.d.comb += [
                phases.eq(Mux(tail.planes, 2, 0)),
                s.zero.eq(op.inner == 0),
                s.words_last.eq(s.zero | (s.words == op.inner - 1)),
            ]
            with m.If(s.phase == 1):
                m.d.comb += s.b_now.eq(s.b + plane)
            with m.If(s.phase == 2):
                m.d.comb += s.a_now.eq(s.a + plane)
        with m.If(s.is_op[Op.ROTATE]):
            m.d.comb += [phases.eq(1), s.words_last.eq(s.words == op.inner - 1)]
            with m.If(s.phase == 1):
                m.d.comb += s.d_now.eq(s.d + (op.inner << 1))
        with m.If(s.is_op[Op.EXPONENTIAL]):
            m.d.comb += s.zero.eq(s.rows >= op.count)

    def _read_operands(self, m: Module, s: _Signals) -> None:
        """Request the operands; a granted one is kept until the other is granted, too."""
        op = self.operation
        tail = op.tail
        step = self.step
        # --- operands; a granted one is kept until the other is granted, too ---
        needs_a, needs_b, needs_sums = Signal(), Signal(), Signal()
        a_word, b_word = Signal(ADDRESS_BITS - 3), Signal(ADDRESS_BITS - 3)
        no_a = Signal()
        m.d.comb += [
            no_a.eq(s.zero | (s.is_op[Op.MOVE] & (tail.a_type == Type.NONE))),
            needs_a.eq(~no_a & ~(s.a_known & (a_word == s.a_now[3:]))),
            s.emit.eq(~s.is_op[Op.MATVEC] | (s.words_last & s.phase_last)),
            s.slot.eq(s.b_now[3:]),
            s.buffers_b.eq(
                s.is_op[Op.MATVEC] & (op.inner <= Mux(tail.planes, HELD_WORDS // 2, HELD_WORDS))
            ),
            s.held.eq(s.buffers_b & s.kept.bit_select(s.slot, 1)),
            s.uses_b.eq(
                ~s.zero
                & (
                    s.is_op[Op.MATVEC]
                    | s.is_op[Op.ROTATE]
                    | (s.is_op[Op.REQUANTIZE] & tail.static_memory)
                )
                & ~s.held
            ),
            needs_b.eq(s.uses_b & ~(s.b_known & (b_word == s.b_now[3:]))),
            # Sums come ahead while B's port is free; else they take its turn before a row ends.
            needs_sums.eq(
                s.is_op[Op.MATVEC]
                & tail.accumulate
                & ~(s.sums_known & (s.sums_word == s.d_now[3:]))
                & (s.emit | ~s.uses_b)
            ),
            s.asks_sums.eq(s.active & self.enable & needs_sums),
            s.asks_b.eq(s.active & self.enable & needs_b & ~needs_sums),
            self.reads_sums.eq(s.asks_sums & self.read_b.ready),
            s.active.eq(self.busy & (s.total != 0)),
            self.read_a.valid.eq(s.active & self.enable & needs_a),
            self.read_b.valid.eq(s.asks_b | s.asks_sums),
            self.read_a.address.eq(s.a_now[3:]),
            self.read_b.address.eq(Mux(needs_sums, s.d_now[3:], s.b_now[3:])),
            s.has_a.eq(~needs_a | self.read_a.ready),
            s.has_b.eq(~needs_b | (s.asks_b & self.read_b.ready)),
            s.has_sums.eq(~needs_sums | (~s.uses_b & (self.read_b.ready | ~s.emit))),
        ]
        with m.If(self.read_a.valid & self.read_a.ready):
            m.d.sync += [s.a_known.eq(1), a_word.eq(s.a_now[3:])]
        with m.If(s.asks_b & self.read_b.ready):
            m.d.sync += [s.b_known.eq(1), b_word.eq(s.b_now[3:])]
        with m.If(self.reads_sums):
            m.d.sync += [s.b_known.eq(0), s.sums_known.eq(1), s.sums_word.eq(s.d_now[3:])]
        with m.If(step.valid & step.keep):
            m.d.sync += s.kept.eq(s.kept | (1 << s.slot))

    def _describe(self, m: Module, s: _Signals) -> None:
        """Describe the step for the stages that follow."""
        op = self.operation
        tail = op.tail
        step = self.step
        m.d.comb += [
            s.last.eq(s.row_last & (s.is_op[Op.ROTATE] | s.words_last) & s.phase_last),
            step.valid.eq(s.active & self.enable & self.fed & s.has_a & s.has_b & s.has_sums),
            step.first.eq((s.words == 0) & (s.phase == 0)),
            step.emit.eq(s.emit),
            step.begins.eq((s.rows == 0) & (s.words == 0) & (s.phase == 0)),
            step.held.eq(s.held),
            step.slot.eq(s.slot),
            step.keep.eq(s.buffers_b & ~s.held & ~s.zero),
            step.accumulate.eq(s.is_op[Op.MATVEC] & tail.accumulate),
            step.to_color.eq(tail.to_color),
            step.color.eq(tail.color),
            step.statistic.eq(tail.statistic),
            step.control.eq(op.control),
            step.last.eq(s.last),
            step.zero.eq(s.zero),
            step.high.eq((s.phase == 0) & (s.is_op[Op.ROTATE] | tail.planes)),
            step.a_place.eq(s.a_now[:3]),
            step.b_place.eq(s.b_now[:3]),
            step.d.eq(s.d_now),
            step.type.eq(tail.d_type),
        ]
        m.d.comb += s.size_d.eq(4)
        with m.Switch(op.op):
            with m.Case(Op.ROTATE, Op.GATE):
                m.d.comb += [step.type.eq(Type.INT16), s.size_d.eq(2)]
            with m.Case(Op.EXPONENTIAL):
                m.d.comb += [step.type.eq(Type.INT8), s.size_d.eq(1)]
            with m.Case(Op.REQUANTIZE, Op.MOVE):
                m.d.comb += s.size_d.eq(1 << tail.d_type.as_value())
            with m.Case(Op.MATVEC):
                m.d.comb += step.type.eq(Type.INT32)
        typed = s.is_op[Op.REQUANTIZE] | s.is_op[Op.MOVE]
        m.d.comb += s.size_a.eq(Mux(typed, 1 << tail.a_type.as_value(), 4))

    def _advance(self, m: Module, s: _Signals) -> None:
        """Advance the loop counters and addresses after a step."""
        op = self.operation
        step = self.step
        with m.If(step.valid):
            m.d.sync += s.phase.eq(s.phase + 1)
            with m.If(s.phase_last):
                m.d.sync += [
                    s.phase.eq(0),
                    s.words.eq(s.words + 1),
                    s.a.eq(s.a + 8),
                    s.b.eq(s.b + 8),
                ]
                with m.If(~s.is_op[Op.MATVEC]):
                    m.d.sync += [
                        s.rows.eq(s.rows + 1),
                        s.a.eq(s.a + s.size_a),
                        s.b.eq(s.b + 4),
                        s.d.eq(s.d + s.size_d),
                    ]
                with m.If(s.words_last):
                    m.d.sync += s.words.eq(0)
                    with m.If(s.is_op[Op.MATVEC]):
                        m.d.sync += [
                            s.rows.eq(s.rows + 1),
                            s.a.eq(s.a_row + op.stride),
                            s.a_row.eq(s.a_row + op.stride),
                            s.b.eq(op.b),
                            s.d.eq(s.d + s.size_d),
                        ]
                    with m.If(s.is_op[Op.ROTATE]):
                        m.d.sync += [
                            s.b.eq(op.b),
                            s.d.eq(s.d_row + op.stride),
                            s.d_row.eq(s.d_row + op.stride),
                        ]
        with m.If((step.valid & s.last) | self.empty):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1),
                s.rows.eq(0),
                s.words.eq(0),
                s.phase.eq(0),
                s.a.eq(self.starting.a),
                s.a_row.eq(self.starting.a),
                s.b.eq(self.starting.b),
                s.d.eq(self.starting.d),
                s.d_row.eq(self.starting.d),
                s.a_known.eq(0),
                s.b_known.eq(0),
                s.sums_known.eq(0),
                s.kept.eq(0),
            ]
