# SPDX-License-Identifier: BSD-2-Clause
"""Order of work of the vector unit: which row and tile comes next, and where its data stand."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.scale import ScaleWord

from .isa import VECTOR, Flags, VectorOp

__all__ = ["Beat", "Reads", "Sequencer", "VectorSizes"]


@dataclass(frozen=True, kw_only=True)
class VectorSizes:
    """Sizes of the vector unit and of the memories around it.

    Attributes
    ----------
    lanes : int
        Columns C of the array; a power of two from 4 to 128.
    line : int
        Bytes L of a scratchpad line; a power of two, at least ``lanes``.
    scratchpad : int
        Bytes of the scratchpad; at least two lines.
    accumulators, vectors, parameters, rows, biases : int
        Entries of the other memories; at least 2 each.

    Raises
    ------
    ValueError
        If a size is none of these.
    """

    lanes: int = 16
    line: int = 16
    scratchpad: int = 2**20
    accumulators: int = 4096
    vectors: int = 8192
    parameters: int = 1024
    rows: int = 512
    biases: int = 256

    def __post_init__(self) -> None:
        if self.lanes not in (4, 8, 16, 32, 64, 128):
            raise ValueError(f"Lanes must be a power of two from 4 to 128, not {self.lanes!r}")
        if self.line not in (4, 8, 16, 32, 64, 128) or self.line < self.lanes:
            raise ValueError(
                f"Line must be a power of two from lanes {self.lanes!r} to 128, not {self.line!r}"
            )
        if self.scratchpad < 2 * self.line:
            raise ValueError(
                f"Scratchpad must be at least two lines of {self.line!r} bytes, "
                f"not {self.scratchpad!r}"
            )
        for name in ("accumulators", "vectors", "parameters", "rows", "biases"):
            if getattr(self, name) < 2:
                raise ValueError(
                    f"{name.capitalize()} must be at least 2, not {getattr(self, name)!r}"
                )

    @property
    def byte_bits(self) -> int:
        """Bits of a byte address of the scratchpad."""
        return ceil_log2(self.scratchpad)


class Beat(data.StructLayout):
    """One (row, tile, phase) on its way through the unit.

    Members
    -------
    row, tile, phase
        Which it is. Only ROTATE, GATE and the ops on rows have more than phase 0.
    first, last
        Whether the tile is the first or the last of its row.
    count
        Lanes 0 to ``count - 1`` are not masked.
    target
        Where its result goes: a byte address of the scratchpad, or a vector memory entry.
    """

    def __init__(self, sizes: VectorSizes) -> None:
        super().__init__(
            {
                "row": ceil_log2(sizes.rows),
                "tile": 16,
                "phase": 2,
                "first": 1,
                "last": 1,
                "count": ceil_log2(sizes.lanes) + 1,
                "target": max(sizes.byte_bits, ceil_log2(sizes.vectors)),
            }
        )


Reads = data.StructLayout({"accumulator": 1, "scratchpad": 1, "vector": 1, "parameter": 1})
"""Memories that a beat reads."""


class Sequencer(wiring.Component):
    """Takes VECTOR commands one at a time, and counts through rows, tiles and phases.

    A beat is presented two cycles after its command was taken, and one per cycle from then on,
    for as long as each is taken by ``step``. The next command is taken the cycle after ``done``.

    Phases of a tile: ROTATE 2 (high plane, low plane; the second reads nothing), GATE 2 (``acc``,
    ``acc2``), others 1. The ops on rows have one tile, with 2 (HIDDEN_SCALES) or 3 phases. A
    command of no rows, or of no tiles, does nothing.

    Parameters
    ----------
    sizes : :class:`VectorSizes`
        Sizes of the unit.

    Members
    -------
    i : :py:`In(stream.Signature(VECTOR))`
        Commands.
    step : :py:`In(1)`
        Takes the beat; only while ``valid``.
    empty : :py:`In(1)`
        Whether all that was taken has had its effect.
    valid, beat, reads : :py:`Out`
        A beat, and which memories it reads.
    accumulator, scratchpad, vector, parameter : :py:`Out`
        Where (entries; the scratchpad by bytes).
    busy : :py:`Out(1)`
        Whether a command is running.
    draining : :py:`Out(1)`
        Whether all its beats have been taken.
    done : :py:`Out(1)`
        In the last cycle of a command.
    op, flags, bits, scale, epsilon : :py:`Out`
        Fields of the command that is running.
    """

    i: stream.Interface
    step: Signal
    empty: Signal
    valid: Signal
    beat: data.View
    reads: data.View
    accumulator: Signal
    scratchpad: Signal
    vector: Signal
    parameter: Signal
    busy: Signal
    draining: Signal
    done: Signal
    op: Signal
    flags: data.View
    bits: Signal
    scale: data.View
    epsilon: Signal

    def __init__(self, sizes: VectorSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "i": In(stream.Signature(VECTOR)),
                "step": In(1),
                "empty": In(1),
                "valid": Out(1),
                "beat": Out(Beat(sizes)),
                "reads": Out(Reads),
                "accumulator": Out(ceil_log2(sizes.accumulators)),
                "scratchpad": Out(sizes.byte_bits),
                "vector": Out(ceil_log2(sizes.vectors)),
                "parameter": Out(ceil_log2(sizes.parameters)),
                "busy": Out(1),
                "draining": Out(1),
                "done": Out(1),
                "op": Out(6),
                "flags": Out(Flags()),
                "bits": Out(6),
                "scale": Out(ScaleWord),
                "epsilon": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, line = self.sizes.lanes, self.sizes.line

        command = Signal(VECTOR, reset_less=True)
        m.d.comb += [
            self.op.eq(command.head.op),
            self.flags.eq(command.flags),
            self.bits.eq(command.extra[16:]),
            self.scale.eq(command.scale),
            self.epsilon.eq(command.scale),
        ]

        def is_op(*ops: VectorOp) -> Signal:
            signal = Signal(name="is_" + "_or_".join(op.name.lower() for op in ops))
            m.d.comb += signal.eq(Value.cast(self.op).matches(*(op.value for op in ops)))
            return signal

        rows_only = is_op(VectorOp.NORM_SCALES, VectorOp.HIDDEN_SCALES)
        rotates = is_op(VectorOp.ROTATE)
        gates = is_op(VectorOp.GATE)
        argmax = is_op(VectorOp.ARGMAX)
        exponential = is_op(VectorOp.EXPONENTIAL)
        causal = is_op(VectorOp.TOP, VectorOp.EXPONENTIAL)
        to_vector = is_op(VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED)
        read_sums = is_op(
            VectorOp.BYTES, VectorOp.ADD, VectorOp.GATE, VectorOp.TOP, VectorOp.ARGMAX
        )
        read_words = is_op(VectorOp.BYTES, VectorOp.ADD, VectorOp.GATE, VectorOp.ARGMAX)
        read_vector = is_op(VectorOp.ADD, VectorOp.QUANTIZE)
        embeds = is_op(VectorOp.EMBED)

        # What stays for the whole command.
        last_row = Signal(16, reset_less=True)
        last_tile = Signal(16, reset_less=True)
        last_phase = Signal(2, reset_less=True)

        # Where the row began, and where the beat stands.
        row = Signal(16, reset_less=True)
        tile = Signal(16, reset_less=True)
        phase = Signal(2, reset_less=True)
        sums_row = Signal.like(self.accumulator, reset_less=True)
        sums = Signal.like(self.accumulator, reset_less=True)
        target_row = Signal.like(self.scratchpad, reset_less=True)
        target = Signal.like(self.scratchpad, reset_less=True)
        vector_row = Signal.like(self.vector, reset_less=True)
        vector = Signal.like(self.vector, reset_less=True)
        rope = Signal(16, reset_less=True)
        parameter = Signal.like(self.parameter, reset_less=True)
        # Lanes from here on that are not masked, and lanes that are processed at all.
        position = Signal(17, reset_less=True)
        remaining = Signal(signed(24), reset_less=True)
        stop = Signal(signed(24), reset_less=True)

        final_phase = Signal()
        final_tile = Signal()
        final_row = Signal()
        rope_wraps = Signal()
        m.d.comb += [
            final_phase.eq(phase == last_phase),
            final_tile.eq((tile == last_tile) | (causal & (stop <= lanes))),
            final_row.eq(row == last_row),
            rope_wraps.eq(rotates & (rope + 1 == command.vector_row)),
        ]

        def begin_row(at: Value) -> None:
            """Start counting tiles for a row whose end position is ``at``."""
            m.d.sync += [
                tile.eq(0),
                rope.eq(0),
                parameter.eq(command.parameters),
                position.eq(at),
                remaining.eq(Mux(argmax, command.extra[:16], at)),
                stop.eq(Mux(exponential, (at + (line - 1)) & ~(line - 1), at)),
            ]

        next_position = Signal(17)
        m.d.comb += next_position.eq(position + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.payload)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.busy.eq(1)
                begin_row(command.first[:16] + 1)
                m.d.sync += [
                    last_row.eq(Mux(argmax, 0, command.extent[:16] - 1)),
                    last_tile.eq(Mux(rows_only, 0, command.extent[16:] - 1)),
                    row.eq(0),
                    phase.eq(0),
                    sums_row.eq(command.sums),
                    sums.eq(command.sums),
                    target_row.eq(command.target),
                    target.eq(command.target),
                    vector_row.eq(command.vector),
                    vector.eq(command.vector),
                ]
                with m.If(rows_only):
                    m.d.sync += last_phase.eq(Mux(self.op == VectorOp.NORM_SCALES.value, 2, 1))
                with m.Else():
                    m.d.sync += last_phase.eq(rotates | gates)
                with m.If(command.extent[:16].any() & (rows_only | command.extent[16:].any())):
                    m.d.sync += self.valid.eq(1)
                    m.next = "RUN"
                with m.Else():
                    m.next = "DRAIN"
            with m.State("RUN"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.step):
                    with m.If(~final_phase):
                        m.d.sync += phase.eq(phase + 1)
                    with m.Else():
                        m.d.sync += phase.eq(0)
                        with m.If(~final_tile):
                            m.d.sync += [
                                tile.eq(tile + 1),
                                sums.eq(sums + command.sums_n),
                                target.eq(target + command.target_n),
                                vector.eq(Mux(rope_wraps, vector_row, vector + 1)),
                                rope.eq(Mux(rope_wraps, 0, rope + 1)),
                                parameter.eq(parameter + 1),
                                remaining.eq(remaining - lanes),
                                stop.eq(stop - lanes),
                            ]
                        with m.Elif(~final_row):
                            begin_row(next_position)
                            m.d.sync += [
                                row.eq(row + 1),
                                sums_row.eq(sums_row + 1),
                                sums.eq(sums_row + 1),
                                target_row.eq(target_row + command.target_row),
                                target.eq(target_row + command.target_row),
                                vector_row.eq(vector_row + command.vector_row),
                                vector.eq(vector_row + command.vector_row),
                            ]
                        with m.Else():
                            m.d.sync += self.valid.eq(0)
                            m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += [self.busy.eq(1), self.draining.eq(1)]
                with m.If(self.empty):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        begins = Signal()
        second_sums = Signal.like(self.accumulator)
        second_words = Signal.like(self.parameter)
        second_plane = Signal.like(self.scratchpad)
        m.d.comb += [
            begins.eq(phase == 0),
            second_sums.eq(command.extra[:16] - command.sums),
            second_words.eq(command.extra[16:] - command.parameters),
            second_plane.eq(target + command.extra),
            self.accumulator.eq(sums + Mux(begins, 0, second_sums)),
            self.parameter.eq(parameter + Mux(begins, 0, second_words)),
            self.scratchpad.eq(target),
            self.vector.eq(vector),
            self.beat.row.eq(row + command.first[16:]),
            self.beat.tile.eq(tile),
            self.beat.phase.eq(phase),
            self.beat.first.eq(tile == 0),
            self.beat.last.eq(final_tile),
            self.beat.target.eq(Mux(to_vector, vector, Mux(begins, target, second_plane))),
        ]
        with m.If(~(causal | argmax) | (remaining >= lanes)):
            m.d.comb += self.beat.count.eq(lanes)
        with m.Elif(remaining > 0):
            m.d.comb += self.beat.count.eq(remaining)
        rotates_now = Signal()
        m.d.comb += [
            rotates_now.eq(rotates & begins),
            self.reads.accumulator.eq(
                read_sums | rotates_now | (exponential & self.beat.count.any())
            ),
            self.reads.parameter.eq(read_words | rotates_now),
            self.reads.vector.eq(read_vector | rotates_now),
            self.reads.scratchpad.eq(embeds),
        ]
        return m
