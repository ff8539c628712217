# SPDX-License-Identifier: BSD-2-Clause
"""Operand sequencer of the vector pipe: loop counters and operand reads.

What a step needs is found in the cycle in which the step before it is made, so that the requests of
operands come from registers.
"""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .isa import Op, Type
from .operation import ADDRESS_BITS, VectorOperation
from .sram import PairPort, ReadPort

__all__ = ["HELD_WORDS", "OperandSequencer", "Step"]

HELD_WORDS = 16
"""Words of 8 elements of X that a MATVEC reads once."""


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
        The step's result is the first one of its instruction.
    held, slot : 1 bit, 4 bits
        Operand B is in this slot of the buffer, not on the port.
    keep : 1 bit
        Operand B is on the port, and is written to the buffer.
    accumulate, to_color, color, statistic, sends_statistic, control
        As of the instruction.
    writes : 1 bit
        The result goes to memory.
    shift, is_byte : 5 bits, 1 bit
        Shift of the squares (REQUANTIZE); powers are bytes (EXPONENTIAL).
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
                "sends_statistic": 1,
                "control": 1,
                "writes": 1,
                "shift": 5,
                "is_byte": 1,
            }
        )


class _Signals:
    """Registers that describe the step, and what follows it."""

    def __init__(self) -> None:
        self.kinds = {o: Signal(name=f"is_{o.name.lower()}") for o in Op if o is not Op.SCALAR}
        # Elements or rows that are left, words that are left of a row, passes over a word.
        self.left, self.words_left = Signal(16), Signal(16)
        self.phase = Signal(2)
        # EXPONENTIAL: elements that are left before the padding.
        self.elements = Signal(16)
        # The step is in the first row; first and last of its row; of the last row; no row is left.
        names = ("first_row", "words_last", "row_last", "phase_last", "none", "short")
        self.first_row, self.words_last, self.row_last, self.phase_last, self.none, self.short = (
            Signal(name=name) for name in names
        )
        self.first, self.begins, self.zero = (Signal(name=n) for n in ("first", "begins", "zero"))
        # Addresses of the word, of the row, and of the step.
        self.a, self.b, self.d = (Signal(ADDRESS_BITS, name=name) for name in "abd")
        self.a_row, self.d_row = (Signal(ADDRESS_BITS, name=f"{n}_row") for n in "ad")
        self.a_now, self.b_now, self.d_now = (
            Signal(ADDRESS_BITS, name=f"{name}_now") for name in "abd"
        )
        # Operands that the step still has to read; B is read at all, or held in the buffer.
        self.needs_a, self.needs_b, self.uses_b, self.held = (
            Signal(name=name) for name in ("needs_a", "needs_b", "uses_b", "held")
        )
        self.buffers_b, self.no_a, self.reads_b = (
            Signal(name=name) for name in ("buffers_b", "no_a", "reads_b")
        )
        # The sums that the step's result is added to have been read.
        # X is int16: two words of memory.
        self.wide = Signal(name="wide")
        self.has_sums = Signal()
        self.needs_sums, self.asks_b = Signal(name="needs_sums"), Signal(name="asks_b")
        self.emit, self.last, self.fire = (Signal(name=n) for n in ("emit", "last", "fire"))
        # Bytes from an element to the next, and from a plane to the other.
        self.size_a, self.size_d = Signal(3, name="size_a"), Signal(3, name="size_d")
        self.plane = Signal(ADDRESS_BITS)
        # Earlier results must be in memory before the first read.
        self.settling = Signal()
        # Steps are left; results are added to what is in memory.
        self.active, self.accumulates = Signal(), Signal()


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
    unsettled : :py:`In(1)`
        Earlier results are not in memory yet; an instruction with ``fence_pipe`` waits for them.
    read_a, read_b : :py:`Out(ReadPort())`, :py:`Out(PairPort())`
        Reads the SRAM.
    step : :py:`Out(Step())`
        The step whose operand reads have been granted.
    reads_sums : :py:`Out(1)`
        ``read_b`` reads two int32 sums, for the next results that accumulate.
    busy : :py:`Out(1)`
        Steps are left.
    asks : :py:`Out(1)`
        A step is due in this cycle.
    held : :py:`In(1)`
        An instruction without steps does not end.
    empty : :py:`Out(1)`
        An instruction without steps ends.
    """

    start: Signal
    starting: Any
    operation: Any
    enable: Signal
    fed: Signal
    unsettled: Signal
    read_a: Any
    read_b: Any
    step: Any
    reads_sums: Signal
    busy: Signal
    asks: Signal
    held: Signal
    empty: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "starting": In(VectorOperation()),
                "operation": In(VectorOperation()),
                "enable": In(1),
                "fed": In(1),
                "unsettled": In(1),
                "read_a": Out(ReadPort()),
                "read_b": Out(PairPort()),
                "step": Out(Step()),
                "reads_sums": Out(1),
                "busy": Out(1),
                "asks": Out(1),
                "held": In(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals()
        self._read_operands(m, s)
        self._describe(m, s)
        self._advance(m, s)
        self._start(m, s)
        return m

    def _read_operands(self, m: Module, s: _Signals) -> None:
        """Request the operands; a granted one is kept until the other is granted, too."""
        has_a, has_b, has_sums = (Signal(name=f"gets_{n}") for n in ("a", "b", "sums"))
        m.d.comb += [
            self.empty.eq(self.busy & s.none & ~self.held),
            self.asks.eq(s.active & self.enable & ~(s.settling & self.unsettled)),
            s.emit.eq(~s.kinds[Op.MATVEC] | (s.words_last & s.phase_last)),
            s.asks_b.eq(s.needs_b & ~s.needs_sums),
            self.read_a.valid.eq(self.asks & s.needs_a),
            self.read_b.valid.eq(self.asks & (s.needs_b | s.needs_sums)),
            self.read_a.address.eq(s.a_now[3:]),
            self.read_b.address.eq(Mux(s.needs_sums, s.d_now[3:], s.b_now[3:])),
            self.read_b.pair.eq(s.wide & ~s.needs_sums),
            self.reads_sums.eq(self.asks & s.needs_sums & self.read_b.ready),
            has_a.eq(~s.needs_a | self.read_a.ready),
            has_b.eq(~s.needs_b | (~s.needs_sums & self.read_b.ready)),
            has_sums.eq(~s.needs_sums | (~s.uses_b & (self.read_b.ready | ~s.emit))),
            s.fire.eq(self.asks & self.fed & has_a & has_b & has_sums),
        ]
        with m.If(~self.unsettled):
            m.d.sync += s.settling.eq(0)
        with m.If(self.read_a.valid & self.read_a.ready):
            m.d.sync += s.needs_a.eq(0)
        with m.If(self.read_b.valid & self.read_b.ready):
            # Behind sums the port shows B no more.
            m.d.sync += s.needs_b.eq(s.needs_sums & s.uses_b)

    def _describe(self, m: Module, s: _Signals) -> None:
        """Describe the step for the stages that follow."""
        op, step, kinds = self.operation, self.step, s.kinds
        tail = op.tail
        m.d.comb += [
            s.last.eq(s.row_last & (kinds[Op.ROTATE] | s.words_last) & s.phase_last),
            step.valid.eq(s.fire),
            step.first.eq(s.first),
            step.emit.eq(s.emit),
            step.begins.eq(s.begins),
            step.held.eq(s.held),
            step.slot.eq(Mux(s.wide, s.b_now[4:8], s.b_now[3:7])),
            step.keep.eq(s.buffers_b & ~s.held & ~s.zero),
            step.accumulate.eq(s.accumulates),
            step.to_color.eq(tail.to_color),
            step.color.eq(tail.color),
            step.statistic.eq(tail.statistic),
            step.sends_statistic.eq(op.sends_statistic),
            step.control.eq(op.control),
            step.shift.eq(op.inner),
            step.is_byte.eq(tail.bits == 8),
            step.last.eq(s.last),
            step.zero.eq(s.zero),
            step.high.eq((s.phase == 0) & (kinds[Op.ROTATE] | tail.planes)),
            step.a_place.eq(s.a_now[:3]),
            step.b_place.eq(s.b_now[:3]),
            step.d.eq(s.d_now),
            step.type.eq(tail.d_type),
            step.writes.eq((~tail.to_color | kinds[Op.MOVE]) & (step.type != Type.NONE)),
        ]
        with m.If(kinds[Op.ROTATE] | kinds[Op.EXPONENTIAL]):
            m.d.comb += step.type.eq(Type.INT16)
        with m.If(kinds[Op.MATVEC] | kinds[Op.NOISE]):
            m.d.comb += step.type.eq(Type.INT32)

    def _advance(self, m: Module, s: _Signals) -> None:
        """Find what follows a step: counters, addresses, and operands that have to be read."""
        op, kinds = self.operation, s.kinds
        matvec, rotate = kinds[Op.MATVEC], kinds[Op.ROTATE]
        row_ends, to_second, to_third = (
            Signal(name=name) for name in ("row_ends", "to_second", "to_third")
        )
        m.d.comb += [
            row_ends.eq(s.phase_last & (~matvec | s.words_last)),
            # High by high, high by low, low by high: only the first needs two words of memory.
            to_second.eq(~s.phase_last & (s.phase == 0)),
            to_third.eq(~s.phase_last & (s.phase == 1)),
        ]
        by = {n: Signal(ADDRESS_BITS, name=f"{n}_by") for n in "abd"}
        new = {n: Signal(ADDRESS_BITS, name=f"{n}_new") for n in "abd"}
        a_from, d_from = (Signal(ADDRESS_BITS, name=f"{n}_from") for n in "ad")
        wraps = Signal()
        m.d.comb += [
            wraps.eq(s.phase_last & s.words_last & (matvec | rotate)),
            a_from.eq(Mux(matvec & row_ends, s.a_row, s.a)),
            d_from.eq(Mux(rotate & wraps, s.d_row, s.d)),
            new["a"].eq(a_from + by["a"]),
            new["b"].eq(Mux(wraps, op.b, s.b + by["b"])),
            new["d"].eq(d_from + by["d"]),
        ]
        with m.If(matvec):
            m.d.comb += [
                by["a"].eq(
                    Mux(s.phase_last, Mux(s.words_last, op.stride, 8), Mux(to_third, s.plane, 0))
                ),
                by["b"].eq(Mux(s.phase_last, Mux(s.wide, 16, 8), Mux(to_second, s.plane, 0))),
                by["d"].eq(Mux(row_ends, 4, 0)),
            ]
        with m.Else():
            m.d.comb += [
                by["a"].eq(Mux(s.phase_last, s.size_a, 0)),
                by["b"].eq(Mux(s.phase_last, 4, 0)),
                by["d"].eq(
                    Mux(
                        s.phase_last,
                        Mux(wraps, op.stride, s.size_d),
                        op.inner << 1,
                    )
                ),
            ]
        names = ("zero", "held", "uses_b", "emit", "has_sums", "words_last")
        zero, held, uses_b, emit, has_sums, words_last = (Signal(name=f"{n}_new") for n in names)
        m.d.comb += [
            zero.eq(s.zero | (kinds[Op.EXPONENTIAL] & (s.elements == 1))),
            held.eq(s.buffers_b & (~s.first_row | row_ends | to_third)),
            uses_b.eq(s.reads_b & ~zero & ~held),
            words_last.eq(
                Mux(s.phase_last, Mux(s.words_last, s.short, s.words_left == 2), s.words_last)
            ),
            emit.eq(words_last & self._ends_phases(s)),
            has_sums.eq((s.has_sums | self.reads_sums) & ~(row_ends & s.d_now[2])),
        ]
        with m.If(self.reads_sums):
            m.d.sync += [s.has_sums.eq(1), s.needs_sums.eq(0)]
        with m.If(s.fire):
            m.d.sync += [
                s.begins.eq(s.begins & ~s.emit),
                s.phase.eq(Mux(s.phase_last, 0, s.phase + 1)),
                s.phase_last.eq(self._ends_phases(s)),
                s.words_last.eq(words_last),
                s.has_sums.eq(has_sums),
                s.first.eq(row_ends),
                s.first_row.eq(s.first_row & ~row_ends),
                *(now.eq(new[n]) for n, now in (("a", s.a_now), ("b", s.b_now), ("d", s.d_now))),
                s.zero.eq(zero),
                s.held.eq(held),
                s.uses_b.eq(uses_b),
                # What the port shows is not read again.
                s.needs_a.eq(~zero & ~s.no_a & ~((new["a"][3:] == s.a_now[3:]) & ~s.zero)),
                s.needs_b.eq(uses_b & ~((new["b"][3:] == s.b_now[3:]) & s.uses_b)),
                # Sums come ahead while B's port is free; else they take its turn before a row ends.
                s.needs_sums.eq(s.accumulates & ~has_sums & (emit | ~uses_b)),
            ]
            with m.If(s.phase_last):
                m.d.sync += [
                    s.a.eq(new["a"]),
                    s.b.eq(new["b"]),
                    s.words_left.eq(Mux(s.words_last, op.inner, s.words_left - 1)),
                ]
            with m.If(row_ends):
                m.d.sync += [
                    s.d.eq(new["d"]),
                    s.a_row.eq(new["a"]),
                    s.left.eq(s.left - 1),
                    s.elements.eq(s.elements - 1),
                    s.row_last.eq(s.left == 2),
                ]
            with m.If(wraps):
                m.d.sync += s.d_row.eq(new["d"])
            with m.If(s.last):
                m.d.sync += [self.busy.eq(0), s.active.eq(0)]
        with m.If(self.empty):
            m.d.sync += self.busy.eq(0)

    def _ends_phases(self, s: _Signals) -> Any:
        """Return whether the step after this one is the last pass over its word."""
        two, three = s.kinds[Op.ROTATE], s.kinds[Op.MATVEC] & self.operation.tail.planes
        return Mux(s.phase_last, ~(two | three), Mux(three, s.phase == 1, 1))

    def _start(self, m: Module, s: _Signals) -> None:
        """Begin an instruction with its first step."""
        op = self.starting
        tail = op.tail
        is_op = {o: op.op == o for o in s.kinds}
        matvec, rotate = is_op[Op.MATVEC], is_op[Op.ROTATE]
        padded, pads = Signal(16), Signal()
        zero, no_a, reads_b, short, wide = (
            Signal(name=f"starting_{n}") for n in ("zero", "no_a", "reads_b", "short", "wide")
        )
        size_a = Signal(3, name="starting_size_a")
        size_d = Signal(3, name="starting_size_d")
        typed = is_op[Op.REQUANTIZE] | is_op[Op.MOVE]
        m.d.comb += [
            pads.eq(is_op[Op.EXPONENTIAL] & ~tail.accumulate),
            padded.eq((op.count + 7) & 0xFFF8),
            zero.eq(matvec & (op.inner == 0)),
            wide.eq(matvec & (tail.a_type == Type.INT16)),
            no_a.eq((is_op[Op.MOVE] & (tail.a_type == Type.NONE)) | is_op[Op.NOISE]),
            reads_b.eq(matvec | rotate | (is_op[Op.REQUANTIZE] & tail.static_memory)),
            short.eq((op.inner == 1) | zero | ~(matvec | rotate)),
            size_a.eq(Mux(typed, 1 << tail.a_type.as_value(), 4)),
            size_d.eq(4),
        ]
        with m.If(rotate | is_op[Op.EXPONENTIAL]):
            m.d.comb += size_d.eq(2)
        with m.If(typed | is_op[Op.GATE]):
            m.d.comb += size_d.eq(1 << tail.d_type.as_value())
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), s.active.eq(op.count != 0)]
        # Whether it starts is known late: what counts only from then on follows until it does.
        with m.If(~self.busy):
            m.d.sync += [
                *(kind.eq(is_op[o]) for o, kind in s.kinds.items()),
                s.none.eq(op.count == 0),
                s.accumulates.eq(matvec & tail.accumulate),
                s.settling.eq(op.fence_pipe & self.unsettled),
                s.left.eq(Mux(pads, padded, op.count)),
                s.row_last.eq((op.count == 1) & ~pads),
                s.elements.eq(op.count),
                s.words_left.eq(op.inner),
                s.short.eq(short),
                s.words_last.eq(short),
                s.phase.eq(0),
                s.phase_last.eq(~(rotate | (matvec & tail.planes))),
                s.first.eq(1),
                s.first_row.eq(1),
                s.begins.eq(~op.continues),
                s.zero.eq(zero),
                s.no_a.eq(no_a),
                s.reads_b.eq(reads_b),
                s.buffers_b.eq(
                    matvec & (op.inner <= Mux(tail.planes, HELD_WORDS // 2, HELD_WORDS))
                ),
                s.held.eq(0),
                s.uses_b.eq(reads_b & ~zero),
                s.needs_a.eq(~no_a & ~zero),
                s.needs_b.eq(reads_b & ~zero),
                s.wide.eq(wide),
                s.has_sums.eq(0),
                s.needs_sums.eq(matvec & tail.accumulate & ((short & ~tail.planes) | zero)),
                *(now.eq(op.a) for now in (s.a, s.a_row, s.a_now)),
                *(now.eq(op.b) for now in (s.b, s.b_now)),
                *(now.eq(op.d) for now in (s.d, s.d_row, s.d_now)),
                s.size_a.eq(size_a),
                s.size_d.eq(size_d),
                s.plane.eq(op.inner << 3),
            ]
