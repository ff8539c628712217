# SPDX-License-Identifier: BSD-2-Clause
"""Decoder of the vector unit: control signals of each operation."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import enum

from .isa import VectorOp
from .vector_control import VectorSequencer
from .vector_lanes import Kind, Source

__all__ = ["Decoded", "decode"]

_KINDS = {
    VectorOp.REQUANTIZE: Kind.REQUANTIZED,
    VectorOp.ROTATE: Kind.ROTATED,
    VectorOp.ADD: Kind.ADDED,
    VectorOp.GATE: Kind.GATED,
    VectorOp.EMBED: Kind.REQUANTIZED,
    VectorOp.NORM: Kind.REQUANTIZED,
    VectorOp.QUANTIZE: Kind.REQUANTIZED,
    VectorOp.VALUES: Kind.REQUANTIZED,
    VectorOp.ROTATE_AGAIN: Kind.ROTATED,
    VectorOp.TOP: Kind.SUM,
    VectorOp.EXPONENTIAL: Kind.POWER,
    VectorOp.ARGMAX: Kind.REQUANTIZED,
}
_BITS = {
    VectorOp.ROTATE: 32,
    VectorOp.ROTATE_AGAIN: 32,
    VectorOp.ADD: 32,
    VectorOp.GATE: 16,
}
"""Width of the re-quantized value; other commands bring their own."""


@dataclass(frozen=True)
class Decoded:
    """Control signals of the operation that is running.

    They come from registers, and are constant from the second cycle after its command was taken.
    """

    kind: enum.EnumView[Kind]
    source: enum.EnumView[Source]
    bits: Signal
    biased: Signal
    beyond: Signal
    """Bits of a sum that are its sign."""
    norms: Signal
    rotates: Signal
    gates: Signal
    quantizes: Signal
    exponential: Signal
    tops: Signal
    argmax: Signal
    searches: Signal
    """The largest of all lanes is searched."""
    to_scratchpad: Signal
    to_vector: Signal
    """The vector memory is written, with the statistic."""
    reduces: Signal
    uses_dynamic: Signal


def decode(m: Module, sequencer: VectorSequencer) -> Decoded:
    """Add the decoder to a module and return its signals."""
    op = sequencer.op

    def is_op(*ops: VectorOp) -> Signal:
        signal = Signal(name="is_" + "_or_".join(op.name.lower() for op in ops), reset_less=True)
        m.d.sync += signal.eq(op.matches(*(op.value for op in ops)))
        return signal

    kind = Signal(Kind, reset_less=True)
    source = Signal(Source, reset_less=True)
    bits = Signal(6, reset_less=True)
    beyond, biased = Signal(32, reset_less=True), Signal(reset_less=True)
    m.d.sync += [
        bits.eq(sequencer.bits),
        beyond.eq(~(Const(2**31 - 1, 32) >> (32 - sequencer.bits)[:5])),
        biased.eq(sequencer.flags.biased),
    ]
    with m.Switch(op):
        for which, value in _KINDS.items():
            with m.Case(which.value):
                m.d.sync += kind.eq(value)
                if which in _BITS:
                    m.d.sync += bits.eq(_BITS[which])

    adds = op.matches(VectorOp.REQUANTIZE.value, VectorOp.ARGMAX.value)
    with m.If(adds & sequencer.flags.biased):
        m.d.sync += [kind.eq(Kind.ADDED), bits.eq(32)]
    rotations = (VectorOp.ROTATE, VectorOp.ROTATE_AGAIN)
    with m.If(op.matches(*(each.value for each in rotations))):
        m.d.sync += beyond.eq(~Const(2**15 - 1, 32))
    embeds, again = is_op(VectorOp.EMBED), is_op(VectorOp.ROTATE_AGAIN)
    decoded = Decoded(
        kind=kind,
        source=source,
        bits=bits,
        biased=biased,
        beyond=beyond,
        norms=is_op(VectorOp.NORM),
        rotates=is_op(*rotations),
        gates=is_op(VectorOp.GATE),
        quantizes=is_op(VectorOp.QUANTIZE, VectorOp.NORM),
        exponential=is_op(VectorOp.EXPONENTIAL),
        tops=is_op(VectorOp.TOP),
        argmax=is_op(VectorOp.ARGMAX),
        searches=is_op(VectorOp.TOP, VectorOp.ARGMAX),
        to_scratchpad=is_op(
            VectorOp.REQUANTIZE,
            *rotations,
            VectorOp.NORM,
            VectorOp.QUANTIZE,
            VectorOp.EXPONENTIAL,
        ),
        to_vector=is_op(VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED, VectorOp.VALUES),
        reduces=Signal(name="reduces"),
        uses_dynamic=Signal(name="uses_dynamic"),
    )
    m.d.comb += [
        source.eq(Mux(embeds, Source.CELL, Mux(decoded.quantizes, Source.VECTOR, Source.SUM))),
        decoded.reduces.eq(
            decoded.to_vector | decoded.searches | decoded.exponential | decoded.norms
        ),
        decoded.uses_dynamic.eq(embeds | sequencer.flags.dynamic),
    ]
    with m.If(again):
        m.d.comb += source.eq(Source.SCALED_CELL)
    return decoded
