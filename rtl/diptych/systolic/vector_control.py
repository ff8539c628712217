# SPDX-License-Identifier: BSD-2-Clause
"""Sequencer of the vector unit: iterates over rows and tiles, and their addresses."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.arith.scale import ScaleWord

from .isa import VECTOR, Flags, VectorOp

__all__ = ["Reads", "VectorBeat", "VectorSequencer", "VectorSizes"]


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


class VectorBeat(data.StructLayout):
    """Control of one (row, tile, phase) in the pipeline of the vector unit.

    Members
    -------
    row, tile, phase
        Position. Only ROTATE, GATE and the first tile of NORM have more than phase 0.
    first, last
        The row begins; the tile is the last of its row.
    epsilon
        It is for the epsilon of a norm, not for a tile.
    count
        Lanes 0 to ``count - 1`` are not masked.
    target
        Address of the result: byte of the scratchpad, or entry of the vector memory.
    """

    def __init__(self, sizes: VectorSizes) -> None:
        super().__init__(
            {
                "row": ceil_log2(sizes.rows),
                "tile": 16,
                "phase": 1,
                "first": 1,
                "last": 1,
                "epsilon": 1,
                "count": ceil_log2(sizes.lanes) + 1,
                "target": max(sizes.byte_bits, ceil_log2(sizes.vectors)),
            }
        )


Reads = data.StructLayout(
    {"accumulator": 1, "scratchpad": 1, "vector": 1, "parameter": 1, "bias": 1}
)
"""Memories that a beat reads."""


class _Signals:
    """Command of a :class:`VectorSequencer`, its properties, and the position in it."""

    def __init__(self, sequencer: "VectorSequencer") -> None:
        self.command = Signal(VECTOR, reset_less=True)
        # Properties of the operation.
        self.norms = Signal(reset_less=True)
        self.rotates = Signal(reset_less=True)
        self.again = Signal(reset_less=True)
        self.gates = Signal(reset_less=True)
        self.argmax = Signal(reset_less=True)
        self.exponential = Signal(reset_less=True)
        self.causal = Signal(reset_less=True)
        self.to_vector = Signal(reset_less=True)
        self.read_sums = Signal(reset_less=True)
        self.read_words = Signal(reset_less=True)
        self.read_vector = Signal(reset_less=True)
        self.embeds = Signal(reset_less=True)
        # Constant during a command.
        self.last_row = Signal(16, reset_less=True)
        self.last_tile = Signal(16, reset_less=True)
        self.two_phases = Signal(reset_less=True)
        # Start of the row, and position of the beat.
        self.row = Signal(16, reset_less=True)
        self.tile = Signal(16, reset_less=True)
        self.first_tile = Signal(16)
        self.phase = Signal(reset_less=True)
        self.sums_row = Signal.like(sequencer.accumulator, reset_less=True)
        self.sums = Signal.like(sequencer.accumulator, reset_less=True)
        self.target_row = Signal.like(sequencer.scratchpad, reset_less=True)
        self.target = Signal.like(sequencer.scratchpad, reset_less=True)
        self.vector_row = Signal.like(sequencer.vector, reset_less=True)
        self.vector = Signal.like(sequencer.vector, reset_less=True)
        self.rope = Signal(16, reset_less=True)
        self.parameter = Signal.like(sequencer.parameter, reset_less=True)
        # End of the next row; lanes from here on that are not masked, and lanes that are processed.
        self.position = Signal(17, reset_less=True)
        self.remaining = Signal(signed(24), reset_less=True)
        self.stop = Signal(signed(24), reset_less=True)
        self.some_remain = Signal(reset_less=True)  # ``remaining`` is positive; for EXPONENTIAL
        self.stops = Signal(reset_less=True)  # no tile of a causal row is behind this one
        self.final_phase = Signal()
        self.final_tile = Signal()
        self.final_row = Signal()
        self.rope_wraps = Signal()


class VectorSequencer(wiring.Component):
    """Takes VECTOR commands one at a time, and iterates over rows, tiles and phases.

    A beat is presented two cycles after its command was taken, and one per cycle from then on,
    for as long as each is taken by ``step``. The next command is taken the cycle after ``done``.

    Phases of a tile: ROTATE 2 (high plane, low plane; the second reads nothing), GATE 2 (``acc``,
    ``acc2``), the first of a row of NORM 2 (epsilon, which reads nothing; the tile), others 1. A
    command of no rows, or of no tiles, does nothing.

    Parameters
    ----------
    sizes : :class:`VectorSizes`
        Sizes of the sequencer.

    Members
    -------
    i : :py:`In(stream.Signature(VECTOR))`
        Commands.
    step : :py:`In(1)`
        Takes the beat; only while ``valid``.
    empty : :py:`In(1)`
        The pipeline is empty, and its results are written.
    valid, beat, reads : :py:`Out(1)`, :py:`Out(VectorBeat(sizes))`, :py:`Out(Reads)`
        A beat, and the memories that it reads.
    accumulator, scratchpad : :py:`Out(ceil_log2(accumulators))`, :py:`Out(byte_bits)`
        Entry of the accumulators, and byte address of the scratchpad.
    vector, parameter : :py:`Out(ceil_log2(vectors))`, :py:`Out(ceil_log2(parameters))`
        Entries of the vector memory and of the parameters.
    bias : :py:`Out(ceil_log2(biases))`
        Entry of the biases.
    busy : :py:`Out(1)`
        A command is running.
    draining : :py:`Out(1)`
        All beats of the command have been taken.
    done : :py:`Out(1)`
        In the last cycle of a command.
    op, flags, bits : :py:`Out(6)`, :py:`Out(Flags())`, :py:`Out(6)`
        Fields of the command that is running.
    scale, epsilon, target : :py:`Out(ScaleWord)`, :py:`Out(32)`, :py:`Out(32)`
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
    bias: Signal
    busy: Signal
    draining: Signal
    done: Signal
    op: Signal
    flags: data.View
    bits: Signal
    scale: data.View
    epsilon: Signal
    target: Signal

    def __init__(self, sizes: VectorSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "i": In(stream.Signature(VECTOR)),
                "step": In(1),
                "empty": In(1),
                "valid": Out(1),
                "beat": Out(VectorBeat(sizes)),
                "reads": Out(Reads),
                "accumulator": Out(ceil_log2(sizes.accumulators)),
                "scratchpad": Out(sizes.byte_bits),
                "vector": Out(ceil_log2(sizes.vectors)),
                "parameter": Out(ceil_log2(sizes.parameters)),
                "bias": Out(ceil_log2(sizes.biases)),
                "busy": Out(1),
                "draining": Out(1),
                "done": Out(1),
                "op": Out(6),
                "flags": Out(Flags()),
                "bits": Out(6),
                "scale": Out(ScaleWord),
                "epsilon": Out(32),
                "target": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals(self)
        self._split(m, s)
        self._find_ends(m, s)
        self._advance(m, s)
        self._present(m, s)
        return m

    def _split(self, m: Module, s: _Signals) -> None:
        """Split the command into its fields."""
        m.d.comb += [
            self.op.eq(s.command.head.op),
            self.flags.eq(s.command.flags),
            self.bits.eq(s.command.extra[16:]),
            self.scale.eq(s.command.scale),
            self.epsilon.eq(s.command.sums),
            self.target.eq(s.command.target),
        ]

    def _find_ends(self, m: Module, s: _Signals) -> None:
        """Find the last phase, tile and row."""
        m.d.comb += [
            s.final_phase.eq(s.phase[0] | ~(s.two_phases | (s.norms & (s.tile == 0)))),
            s.final_tile.eq((s.tile == s.last_tile) | s.stops),
            s.final_row.eq(s.row == s.last_row),
            s.rope_wraps.eq(s.rotates & (s.rope + 1 == s.command.vector_row)),
        ]

    def _advance(self, m: Module, s: _Signals) -> None:
        """Take a command, and count through its phases, tiles and rows."""
        m.d.comb += s.first_tile.eq(Mux(s.argmax, s.command.vector[:16], 0))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += s.command.eq(self.i.payload)
                    self._decode(m, s, self.i.payload.head.op)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.busy.eq(1)
                self._begin_row(m, s, s.command.first[:16] + 1)
                m.d.sync += [
                    s.last_row.eq(Mux(s.argmax, 0, s.command.extent[:16] - 1)),
                    s.last_tile.eq(s.command.extent[16:] - 1 + s.first_tile),
                    s.row.eq(0),
                    s.phase.eq(0),
                    s.sums_row.eq(s.command.sums),
                    s.sums.eq(s.command.sums),
                    s.target_row.eq(s.command.target),
                    s.target.eq(s.command.target),
                    s.vector_row.eq(s.command.vector),
                    s.vector.eq(s.command.vector),
                ]
                m.d.sync += s.two_phases.eq(s.rotates | s.gates)
                with m.If(s.command.extent[:16].any() & s.command.extent[16:].any()):
                    m.d.sync += self.valid.eq(1)
                    m.next = "RUN"
                with m.Else():
                    m.next = "DRAIN"
            with m.State("RUN"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.step):
                    with m.If(~s.final_phase):
                        m.d.sync += s.phase.eq(1)
                    with m.Else():
                        m.d.sync += s.phase.eq(0)
                        with m.If(~s.final_tile):
                            m.d.sync += [
                                s.tile.eq(s.tile + 1),
                                s.sums.eq(s.sums + s.command.sums_n),
                                s.target.eq(s.target + s.command.target_n),
                                s.vector.eq(Mux(s.rope_wraps, s.vector_row, s.vector + 1)),
                                s.rope.eq(Mux(s.rope_wraps, 0, s.rope + 1)),
                                s.parameter.eq(s.parameter + 1),
                                s.remaining.eq(s.remaining - self.sizes.lanes),
                                s.some_remain.eq(s.remaining > self.sizes.lanes),
                                s.stop.eq(s.stop - self.sizes.lanes),
                                s.stops.eq(s.causal & (s.stop <= 2 * self.sizes.lanes)),
                            ]
                        with m.Elif(~s.final_row):
                            self._begin_row(m, s, s.position)
                            m.d.sync += [
                                s.row.eq(s.row + 1),
                                s.sums_row.eq(s.sums_row + 1),
                                s.sums.eq(s.sums_row + 1),
                                s.target_row.eq(s.target_row + s.command.target_row),
                                s.target.eq(s.target_row + s.command.target_row),
                                s.vector_row.eq(s.vector_row + s.command.vector_row),
                                s.vector.eq(s.vector_row + s.command.vector_row),
                            ]
                        with m.Else():
                            m.d.sync += self.valid.eq(0)
                            m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += [self.busy.eq(1), self.draining.eq(1)]
                with m.If(self.empty):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

    def _present(self, m: Module, s: _Signals) -> None:
        """Present the beat, its addresses, and the memories that it reads."""
        begins, epsilon = Signal(), Signal()
        second_sums = Signal.like(self.accumulator)
        second_words = Signal.like(self.parameter)
        second_plane = Signal.like(self.scratchpad)
        bias_distance = Signal.like(self.bias)
        m.d.comb += [
            begins.eq(~s.phase),
            epsilon.eq(s.norms & (s.tile == 0) & begins),
            second_sums.eq(s.command.extra[:16] - s.command.sums),
            second_words.eq(s.command.extra[16:] - s.command.parameters),
            second_plane.eq(s.target + s.command.extra),
            self.accumulator.eq(s.sums + Mux(begins, 0, second_sums)),
            self.parameter.eq(s.parameter + Mux(begins, 0, second_words)),
            self.bias.eq(s.parameter + bias_distance),
            bias_distance.eq(self.scale.as_value() - s.command.parameters),
            self.scratchpad.eq(s.target),
            self.vector.eq(s.vector),
            self.beat.row.eq(s.row + s.command.first[16:]),
            self.beat.tile.eq(s.tile),
            self.beat.phase.eq(s.phase),
            self.beat.first.eq((s.tile == 0) & (begins | ~s.norms)),
            self.beat.last.eq(s.final_tile),
            self.beat.epsilon.eq(epsilon),
            self.beat.target.eq(
                Mux(s.to_vector, s.vector, Mux(s.rotates & ~begins, second_plane, s.target))
            ),
        ]
        with m.If(~(s.causal | s.argmax) | (s.remaining >= self.sizes.lanes)):
            m.d.comb += self.beat.count.eq(self.sizes.lanes)
        with m.Elif(s.remaining > 0):
            m.d.comb += self.beat.count.eq(s.remaining)
        rotates_now = Signal()
        m.d.comb += [
            rotates_now.eq(s.rotates & begins),
            self.reads.accumulator.eq(
                # Not ``count``, which is known late.
                s.read_sums | (rotates_now & ~s.again) | (s.exponential & s.some_remain)
            ),
            self.reads.parameter.eq(s.read_words | rotates_now),
            self.reads.vector.eq((s.read_vector & ~epsilon) | rotates_now),
            self.reads.scratchpad.eq(s.embeds | (rotates_now & s.again)),
            self.reads.bias.eq(self.flags.biased & (begins | ~s.rotates)),
        ]

    def _decode(self, m: Module, s: _Signals, op: Value) -> None:
        """Decode the operation of the command that is taken."""
        sums = (
            VectorOp.REQUANTIZE,
            VectorOp.ADD,
            VectorOp.GATE,
            VectorOp.ARGMAX,
            VectorOp.VALUES,
        )
        to_vector = (VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED, VectorOp.VALUES)
        for signal, ops in (
            (s.norms, (VectorOp.NORM,)),
            (s.rotates, (VectorOp.ROTATE, VectorOp.ROTATE_AGAIN)),
            (s.again, (VectorOp.ROTATE_AGAIN,)),
            (s.gates, (VectorOp.GATE,)),
            (s.argmax, (VectorOp.ARGMAX,)),
            (s.exponential, (VectorOp.EXPONENTIAL,)),
            (s.causal, (VectorOp.TOP, VectorOp.EXPONENTIAL)),
            (s.to_vector, to_vector),
            (s.read_sums, (*sums, VectorOp.TOP)),
            (s.read_words, sums),
            (s.read_vector, (VectorOp.ADD, VectorOp.NORM, VectorOp.QUANTIZE)),
            (s.embeds, (VectorOp.EMBED,)),
        ):
            m.d.sync += signal.eq(Value.cast(op).matches(*(each.value for each in ops)))

    def _begin_row(self, m: Module, s: _Signals, at: Value) -> None:
        """Start counting tiles for a row whose end position is ``at``."""
        # Powers are written by whole lines.
        one_tile = (at <= self.sizes.lanes) & (
            ~s.exponential if self.sizes.line > self.sizes.lanes else Const(1)
        )
        m.d.sync += [
            s.tile.eq(s.first_tile),
            s.rope.eq(0),
            s.parameter.eq(s.command.parameters),
            s.position.eq(at + 1),
            s.remaining.eq(Mux(s.argmax, s.command.extra[:16], at)),
            s.some_remain.eq(1),
            s.stops.eq(s.causal & one_tile),
            s.stop.eq(
                Mux(s.exponential, (at + (self.sizes.line - 1)) & ~(self.sizes.line - 1), at)
            ),
        ]
