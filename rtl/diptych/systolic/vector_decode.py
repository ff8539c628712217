# SPDX-License-Identifier: BSD-2-Clause
"""Decoder of the vector unit: control signals of each operation."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import enum

from .isa import VectorOp
from .vector_control import VectorSequencer
from .vector_lanes import Kind, Source

__all__ = ["Decoded", "decode"]

_KINDS = {
    VectorOp.BYTES: Kind.REQUANTIZED,
    VectorOp.ROTATE: Kind.ROTATED,
    VectorOp.ADD: Kind.ADDED,
    VectorOp.GATE: Kind.GATED,
    VectorOp.EMBED: Kind.REQUANTIZED,
    VectorOp.NORM_SCALES: Kind.SUM,
    VectorOp.HIDDEN_SCALES: Kind.SUM,
    VectorOp.QUANTIZE: Kind.REQUANTIZED,
    VectorOp.TOP: Kind.SUM,
    VectorOp.EXPONENTIAL: Kind.POWER,
    VectorOp.ARGMAX: Kind.REQUANTIZED,
}
_BITS = {
    VectorOp.BYTES: 8,
    VectorOp.ROTATE: 16,
    VectorOp.ADD: 32,
    VectorOp.GATE: 16,
    VectorOp.EMBED: 16,
    VectorOp.QUANTIZE: 8,
}
"""Width of the re-quantized value; ARGMAX brings its own."""


@dataclass(frozen=True)
class Decoded:
    """Control signals of the operation that is running.

    They come from registers, and are constant from the second cycle after its command was taken.
    """

    kind: enum.EnumView[Kind]
    source: enum.EnumView[Source]
    bits: Signal
    rows_only: Signal
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
    """The vector memory is written, with statistics."""
    squares: Signal
    """The statistics include the squares."""
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
    m.d.sync += bits.eq(sequencer.bits)
    with m.Switch(op):
        for which, value in _KINDS.items():
            with m.Case(which.value):
                m.d.sync += kind.eq(value)
                if which in _BITS:
                    m.d.sync += bits.eq(_BITS[which])

    embeds = is_op(VectorOp.EMBED)
    decoded = Decoded(
        kind=kind,
        source=source,
        bits=bits,
        rows_only=is_op(VectorOp.NORM_SCALES, VectorOp.HIDDEN_SCALES),
        norms=is_op(VectorOp.NORM_SCALES),
        rotates=is_op(VectorOp.ROTATE),
        gates=is_op(VectorOp.GATE),
        quantizes=is_op(VectorOp.QUANTIZE),
        exponential=is_op(VectorOp.EXPONENTIAL),
        tops=is_op(VectorOp.TOP),
        argmax=is_op(VectorOp.ARGMAX),
        searches=is_op(VectorOp.TOP, VectorOp.ARGMAX),
        to_scratchpad=is_op(
            VectorOp.BYTES, VectorOp.ROTATE, VectorOp.QUANTIZE, VectorOp.EXPONENTIAL
        ),
        to_vector=is_op(VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED),
        squares=is_op(VectorOp.ADD, VectorOp.EMBED),
        reduces=Signal(name="reduces"),
        uses_dynamic=Signal(name="uses_dynamic"),
    )
    m.d.comb += [
        source.eq(Mux(embeds, Source.BYTE, Mux(decoded.quantizes, Source.HALF, Source.SUM))),
        decoded.reduces.eq(decoded.to_vector | decoded.searches | decoded.exponential),
        decoded.uses_dynamic.eq(embeds | (sequencer.flags.dynamic & ~decoded.argmax)),
    ]
    return decoded
