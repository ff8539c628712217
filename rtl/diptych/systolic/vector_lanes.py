# SPDX-License-Identifier: BSD-2-Clause
"""A lane of the vector unit: everything that happens to one element."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.exponential import Exponential
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate, planes
from diptych.arith.scale import UNITY, ScaleWord
from diptych.arith.silu import SiluGate
from diptych.arith.square import Square
from diptych.config import ACTIVATION_BITS

__all__ = ["LATENCY", "Kind", "Source", "VectorLane"]


class Source(enum.Enum, shape=2):
    """Operand of the re-quantization, and its scale word."""

    SUM = 0
    """An accumulator, by its parameter."""
    CELL = 1
    """An element of the scratchpad, by 1."""
    VECTOR = 2
    """An element of the vector memory, by the command's scale."""
    SCALED_CELL = 3
    """An element of the scratchpad, by its parameter."""


class Kind(enum.Enum, shape=3):
    """Result of a lane."""

    REQUANTIZED = 0
    ADDED = 1
    ROTATED = 2
    GATED = 3
    POWER = 4
    SUM = 5
    """The accumulator, unchanged."""


_OPERAND = 2  # the stage with the operands in registers
_SCALED = _OPERAND + Requantizer.latency
LATENCY = {
    Kind.REQUANTIZED: _SCALED,
    Kind.ADDED: _SCALED,
    Kind.ROTATED: _SCALED + 1 + Rotate.latency,
    Kind.GATED: _SCALED + SiluGate.latency,
    Kind.POWER: _OPERAND + 1 + Exponential.latency,
    Kind.SUM: _OPERAND,
}
"""Stage at whose end the result is taken; memories are read in stage 1."""


class VectorLane(wiring.Component):
    """Computes one element: operands in stage 1, result at the end of stage :data:`LATENCY`.

    The throughput is one element per enabled cycle. The control inputs of a stage are sampled in
    it.

    Members
    -------
    enable : :py:`In(1)`
        While low, every register holds.
    load, source : :py:`In(1)`, :py:`In(Source)`
        Stage 1: takes new operands (held otherwise), and their source.
    total, cell, element : :py:`In(signed(32))`, :py:`In(signed(12))`, :py:`In(signed(32))`
        Stage 1: outputs of the accumulators, the scratchpad and the vector memory.
    bias, biased : :py:`In(signed(16))`, :py:`In(1)`
        Stage 1: a bias, 0 if there is none; constant during a command: there are biases.
    word : :py:`In(ScaleWord)`
        Stage 1: output of the parameters.
    dynamic, top : :py:`In(ScaleWord)`, :py:`In(signed(32))`
        Stage 2: the row's scale; its largest score.
    bits : :py:`In(6)`
        Stage 2: width of the re-quantized value; constant during a command: kind of powers.
    scale, kind : :py:`In(ScaleWord)`, :py:`In(Kind)`
        Constant during a command: scale of what comes from the vector memory or of the exponential,
        shift of the gate; choice of the result.
    beyond : :py:`In(32)`
        Constant during a command: bits above those of a sum with the vector memory; and its sign.
    fill, square_shift, squares, magnitudes : :py:`In(1)`, :py:`In(5)`, :py:`In(1)`
        Constant during a command: result of masked lanes (1: the least number, 0: zero), shift of
        the squares; squares are summed, magnitudes are compared (0: the results are).
    keep : :py:`In(1)`
        Stage 5: stores the re-quantized value as the gate of the next one.
    live, plane : :py:`In(1)`
        Last stage: the lane is not masked; the plane that is due (1: the low one).
    rotated : :py:`In(signed(16))`
        Result of the pair's rotation of ``scaled`` by ``factor``.
    written : :py:`In(1)`
        After the last stage: the lane takes part in the reductions.
    scaled, factor : :py:`Out(signed(16))`
        Stage 6: the re-quantized value with its bias, and the element of the vector memory.
    result : :py:`Out(signed(32))`
        The result, one stage after its last.
    score, addend : :py:`Out(signed(32))`, :py:`Out(32)`
        One more stage later: operands of the maximum and of the sum.
    """

    enable: Signal
    load: Signal
    source: enum.EnumView
    total: Signal
    cell: Signal
    element: Signal
    bias: Signal
    biased: Signal
    word: data.View
    top: Signal
    dynamic: data.View
    bits: Signal
    scale: data.View
    kind: enum.EnumView
    beyond: Signal
    fill: Signal
    square_shift: Signal
    squares: Signal
    magnitudes: Signal
    keep: Signal
    live: Signal
    plane: Signal
    rotated: Signal
    written: Signal
    scaled: Signal
    factor: Signal
    result: Signal
    score: Signal
    addend: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "load": In(1),
                "source": In(Source),
                "total": In(signed(32)),
                "cell": In(signed(ACTIVATION_BITS)),
                "bias": In(signed(16)),
                "biased": In(1),
                "element": In(signed(32)),
                "word": In(ScaleWord),
                "top": In(signed(32)),
                "dynamic": In(ScaleWord),
                "bits": In(6),
                "scale": In(ScaleWord),
                "kind": In(Kind),
                "beyond": In(32),
                "fill": In(1),
                "square_shift": In(5),
                "squares": In(1),
                "magnitudes": In(1),
                "keep": In(1),
                "live": In(1),
                "plane": In(1),
                "rotated": In(signed(16)),
                "written": In(1),
                "scaled": Out(signed(16)),
                "factor": Out(signed(16)),
                "result": Out(signed(32)),
                "score": Out(signed(32)),
                "addend": Out(32),
            }
        )

    def _take(self, m: Module, value: Signal, word: data.View, element: Signal) -> None:
        """Take the operands of stage 1 into registers."""
        with m.If(self.enable & self.load):
            # A factor of RoPE has 16 bits, and so has a bias.
            with m.If(self.kind == Kind.ROTATED):
                m.d.sync += element.eq(Cat(self.element[:16], self.bias))
            with m.Elif(self.biased):
                m.d.sync += element.eq(self.bias)
            with m.Else():
                m.d.sync += element.eq(self.element)
            with m.Switch(self.source):
                with m.Case(Source.SUM):
                    m.d.sync += [value.eq(self.total), word.eq(self.word)]
                with m.Case(Source.CELL):
                    m.d.sync += [value.eq(self.cell), word.eq(ScaleWord.const({**UNITY}))]
                with m.Case(Source.SCALED_CELL):
                    m.d.sync += [value.eq(self.cell), word.eq(self.word)]
                with m.Default():
                    m.d.sync += [value.eq(self.element), word.eq(self.scale)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.requantizer = requantizer = Requantizer()
        m.submodules.exponential = exponential = Exponential()
        m.submodules.gate = gate = SiluGate()
        m.submodules.square = square = Square()

        value = Signal(signed(32), reset_less=True)
        word = Signal(ScaleWord, reset_less=True)
        distance = Signal(32, reset_less=True)
        elements = [
            Signal(signed(32), name=f"element_{stage}", reset_less=True)
            for stage in range(_OPERAND, _SCALED + 1)
        ]
        self._take(m, value, word, elements[0])

        kept = Signal(signed(16), reset_less=True)
        element = elements[-1]
        # Its sum with an addend, and what it is clamped to; of a rotation, what is rotated.
        added, limit, clamped = Signal(signed(33)), Signal(signed(32)), Signal()
        addend = Signal(signed(32), reset_less=True)
        scaled, factor = (Signal(signed(16), name=n, reset_less=True) for n in ("scaled", "factor"))
        with m.If(self.enable):
            before = elements[-2]
            rotates = self.kind == Kind.ROTATED
            m.d.sync += [
                addend.eq(Mux(rotates, before[16:].as_signed(), before)),
                scaled.eq(Mux(clamped, limit, added)),
                factor.eq(element),
            ]
        with m.If(self.enable):
            m.d.sync += distance.eq(self.top - value)
            for source, target in pairwise(elements):
                m.d.sync += target.eq(source)
            with m.If(self.keep):
                m.d.sync += kept.eq(requantizer.result)

        # Blocks that an operation does not use are disabled.
        powers = Signal()
        gates = Signal()
        is_byte = Signal(reset_less=True)  # beside the powers: bits are constant during a command
        m.d.sync += is_byte.eq(self.bits == 8)
        m.d.comb += [
            powers.eq(self.kind == Kind.POWER),
            gates.eq(self.kind == Kind.GATED),
            requantizer.enable.eq(self.enable & ~powers),
            requantizer.value.eq(value),
            requantizer.word.eq(word),
            requantizer.dynamic.eq(self.dynamic),
            requantizer.bits.eq(self.bits),
            exponential.enable.eq(self.enable & powers),
            exponential.distance.eq(distance),
            exponential.word.eq(self.scale),
            exponential.is_byte.eq(is_byte),
            gate.enable.eq(self.enable & gates),
            gate.gate.eq(kept),
            gate.up.eq(requantizer.result),
            gate.shift.eq(self.scale.mantissa[:4]),
            self.scaled.eq(scaled),
            self.factor.eq(factor),
        ]

        distance = Signal(32)  # from 0, or from -1 down
        m.d.comb += [
            added.eq(requantizer.result + addend),
            distance.eq(Mux(added[-1], ~added, added)),
            clamped.eq((distance & self.beyond).any() | (distance | self.beyond).all()),
            limit.eq(Mux(added[-1], self.beyond | 1, ~self.beyond)),
        ]
        high, low = planes(m, self.rotated)
        chosen = Signal(signed(32))
        with m.Switch(self.kind):
            with m.Case(Kind.REQUANTIZED):
                m.d.comb += chosen.eq(requantizer.result)
            with m.Case(Kind.ROTATED):
                m.d.comb += chosen.eq(Mux(self.plane, low, high))
            with m.Case(Kind.GATED):
                m.d.comb += chosen.eq(gate.result)
            with m.Case(Kind.POWER):
                m.d.comb += chosen.eq(exponential.power)
            with m.Default():
                m.d.comb += chosen.eq(value)

        result = Signal(signed(32), reset_less=True)
        counts = Signal(reset_less=True)  # beside what is reduced
        reduced = Signal(signed(32), reset_less=True)
        shifted = Signal(31)
        # A sum is known late, and whether it is clamped comes last.
        other, adds = Signal(signed(32)), Signal()
        m.d.comb += [
            other.eq(Mux(self.live, chosen, Mux(self.fill, Const(-(2**31), 32), Const(0, 32)))),
            adds.eq(self.live & (self.kind == Kind.ADDED)),
        ]
        with m.If(self.enable):
            m.d.sync += [
                result.eq(Mux(clamped, Mux(adds, limit, other), Mux(adds, added, other))),
                reduced.eq(Mux(self.magnitudes & result[-1], -result, result)),
                counts.eq(self.written),
            ]
        m.d.comb += [
            square.enable.eq(self.enable & self.squares),
            square.value.eq(result[:16]),
            square.shift.eq(0),
            # Not in the cycle of the multiplier.
            shifted.eq(square.square >> self.square_shift),
            self.result.eq(result),
            self.score.eq(Mux(counts, reduced, 0)),
            self.addend.eq(Mux(counts, Mux(self.squares, shifted, reduced), 0)),
        ]
        return m
