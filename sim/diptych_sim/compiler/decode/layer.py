# SPDX-License-Identifier: BSD-2-Clause
"""A layer of the program that every tile runs to decode tokens.

Each piece runs for all active sequences before the next piece begins, so that the reduction of one
sequence travels while another one is computed. What a piece needs of a sequence, and no register
has room for, stands in the sequence's ``state``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.attention import AttentionWriter
from diptych_sim.compiler.decode.placement import CONSTANTS, WORD_BYTES, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import INT16, SAVED
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.machine import top_word
from diptych_sim.golden.numbers import GATE_FRACTION, MANTISSA_BITS, SHIFT_BITS
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel

__all__ = ["LayerWriter", "gate_word", "sum_label", "wide_label"]

_WIDE = "wide hidden"
"""Operation of layers in which a hidden element exceeds the floor, beside :meth:`LayerWriter.down`."""

LATE_PAIRS = 6
"""Pairs of gate and up that GATE takes in a second instruction."""


def wide_label(suffix: str) -> str:
    """Return the label of what is run aside where hidden elements exceed the floor of their magnitudes."""
    return f"down.wide{suffix}"


def sum_label(suffix: str) -> str:
    """Return the label of what receives the sums of the down projection, of whatever scale."""
    return f"down.sum{suffix}"


def gate_word(model: QuantizedModel, layer: QuantizedLayer) -> int:
    """Return the scale word of the largest activation, with GATE's shift."""
    shift = GATE_FRACTION - layer.gate_fraction
    return top_word(model.activation_bits) | shift << (MANTISSA_BITS + SHIFT_BITS)


class LayerWriter(AttentionWriter):
    """Writes pieces of a layer."""

    @property
    def by_floor(self) -> bool:
        """Whether a single sequence's hidden elements are scaled by the floor of their magnitudes."""
        return self.model.has_floors and not self.batched

    def output(self, between: Callable[[], None]) -> None:
        """Add the output projection to the residual stream, and measure what it becomes.

        ``between`` is written while the last sequence's product travels.
        """
        p = self.place
        width = p.heads * self.head_dim

        def receive(n: int) -> None:
            self._add_to_x(n, "x += context Wo", "o_scale", Reg.UNITY)

        def launch(n: int) -> None:
            if not width:
                self.send_zeros(p.chunk, Color.ROW_ADD, "nothing, of no heads")
                return
            self.product(
                "wo",
                p.at("context", n),
                Color.ROW_ADD,
                "context Wo",
                a_reg=Reg.LAYER,
                count=p.chunk,
                width=width,
                # Contexts are received; it waits in the pipe.
                fence_receive=1,
            )

        self.measured(receive, launch, between)

    def down(self, suffix: str, between: Callable[[], None]) -> None:
        """Add the down projection to the residual stream, as :meth:`output` does, behind :meth:`gate`.

        A single sequence's hidden elements are scaled by the floor of their magnitudes, before the largest one
        is known. If that exceeds the floor, sums are dropped, and computed again by the row's own scale.
        """
        s = self.out.scalar
        if not self.by_floor:

            def receive(n: int) -> None:
                self.load_state(n, State.DYNAMIC, Reg.A)
                self._receive_down(n, Reg.A)

            self.measured(receive, self._launch_down, between)
            return
        wide, summed = wide_label(suffix), sum_label(suffix)

        def write_wide() -> None:
            self.out.label(wide)
            self.out.note("hidden = SiLU(gate) up / largest, once more", _WIDE)
            count, drop = self.place.chunk, Type.NONE
            self.receive(Color.ROW_SUM, "drops sums", count=count, d_type=drop, fence_receive=1)
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
            self._load_gate_word()
            self._gate(0)
            s(Function.TO_SCALE, d=Reg.T, a=Reg.A, comment="scale of hidden")
            self._launch_down(0)
            self.out.branch(Reg.UNITY, summed, returns=True)

        self._launch_down(0)
        self._load_floor(Reg.B)
        s(Function.TO_SCALE, d=Reg.T, a=Reg.B, comment="scale of hidden")
        self.take(Reg.A, Color.ROW_TOP, "largest magnitude of all columns")
        comment = "1 if it exceeds the floor"
        s(Function.LESS_THAN, d=Reg.B, a=Reg.B, b=Reg.A, comment=comment)
        self.out.branch(Reg.B, wide)
        self.aside.append(write_wide)
        self.out.label(summed)
        self._receive_down(0, Reg.T)
        between()

    def _receive_down(self, n: int, scale: Reg) -> None:
        self._add_to_x(n, "x += hidden Wdown", "down_scale", scale)

    def _launch_down(self, n: int) -> None:
        p = self.place
        self.product(
            "w_down",
            p.at("hidden", n),
            Color.ROW_ADD,
            "hidden Wdown",
            a_reg=Reg.LAYER,
            count=p.chunk,
            width=p.hidden_bytes,
        )

    def _add_to_x(self, n: int, comment: str, scale: str, dynamic: Reg) -> None:
        """Receive sums, add them to the residual stream, and measure it."""
        self.receive(
            Color.ROW_SUM,
            comment,
            count=self.place.chunk,
            bits=self.model.residual_bits,
            d_base=self.place.at("x", n),
            d_type=Type.INT32,
            stride=4,
            accumulate=1,
            statistic=1,
            fence_receive=1,
            **self.scaled(scale, dynamic=dynamic),
        )

    def launch_gate(self, n: int) -> None:
        """Start the product for SwiGLU's gate and up."""
        if n == self.active[0]:
            self.out.note("hidden = SiLU(normed Wgate) (normed Wup)", "gate and up")
        self.product_of_norm(
            n,
            "w_gate_up",
            "[gate up] = normed [Wgate Wup]",
            a_reg=Reg.LAYER,
            count=2 * self.place.hidden,
        )

    def prepare_gate(self) -> None:
        """Load what :meth:`gate` needs beside its products."""
        self._load_gate_word()
        if self.by_floor:
            self._load_floor(Reg.B)
            self.out.scalar(Function.RECIPROCAL, d=Reg.B, a=Reg.B)

    def _load_gate_word(self) -> None:
        at = self.place.at("constants") + WORD_BYTES * CONSTANTS.index("gate_word")
        comment = "scale word and shift of GATE"
        self.out.scalar(Function.LOAD, d=Reg.T, a=Reg.LAYER, imm=at, comment=comment)

    def gate(self) -> None:
        """SwiGLU's hidden elements as activations, by their largest magnitude or its floor."""
        p, s = self.place, self.out.scalar
        # A single sequence's last pairs, two wavelets each, come while those before are computed, and
        # before the results of those have to be written.
        late = 0 if self.batched else min(p.hidden // 3, LATE_PAIRS)
        spans = [span for span in ((0, p.hidden - late), (p.hidden - late, late)) if span[1]]

        def receive(n: int, first: int = 0, count: int = p.hidden) -> None:
            if not first:
                self.load_state(n, State.DYNAMIC, Reg.A)
            self.receive(
                Color.COLUMN_SUM,
                "gate and up as int16, in pairs",
                count=2 * count,
                d_base=p.at("gate_up", n) + 4 * first,
                **self.scaled("gate_up_scale", first=2 * first),
                **INT16,
            )

        if self.batched:
            self.overlapped(receive, self.launch_gate)
        for n in self.active:
            for first, count in spans:
                if not self.batched:
                    receive(n, first, count)
                ends = first + count == p.hidden
                sent = self.sent(Color.ROW_MAX) if ends else {"statistic": 1}
                self._gate(n, first, count, continues=first > 0, fence_receive=1, **sent)
        if self.by_floor:
            return
        if self.model.has_floors:
            self._load_floor(SAVED)
        for n in self.active:
            self.take(Reg.A, Color.ROW_TOP, "largest magnitude of all columns")
            if self.model.has_floors:
                s(Function.LESS_THAN, d=Reg.B, a=Reg.A, b=SAVED, comment="1 if below the floor")
                s(Function.SELECT, d=Reg.A, a=SAVED, b=Reg.A, dynamic=Reg.B)
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
            self.quantize(n, "gated", "hidden", p.hidden, Reg.B)
            s(Function.TO_SCALE, d=Reg.A, a=Reg.A, comment="scale of hidden")
            self.store_state(n, State.DYNAMIC, Reg.A)

    def _gate(self, n: int, first: int = 0, count: int | None = None, **fields: Any) -> None:
        """Start GATE: to hidden elements by the scale in B if there is a floor, else as they are."""
        p = self.place
        target, each = ("hidden", p.activation_bytes) if self.by_floor else ("gated", WORD_BYTES)
        self.out.vector(
            Op.GATE,
            a_base=p.at("gate_up", n) + 4 * first,
            count=p.hidden if count is None else count,
            b_reg=Reg.T,
            dynamic=Reg.B,
            bits=self.model.activation_bits,
            d_base=p.at(target, n) + each * first,
            d_type=p.activation_type if self.by_floor else Type.INT32,
            comment=f"{target} = SiLU(gate) up" + (" / floor" if self.by_floor else ""),
            **fields,
        )

    def _load_floor(self, register: Reg) -> None:
        at = self.place.at("constants") + WORD_BYTES * CONSTANTS.index("hidden_floor")
        comment = "floor of the largest magnitude"
        self.out.scalar(Function.LOAD, d=register, a=Reg.LAYER, imm=at, comment=comment)
