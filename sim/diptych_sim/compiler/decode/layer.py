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

__all__ = ["LayerWriter", "sum_label", "wide_label"]

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


class LayerWriter(AttentionWriter):
    """Writes pieces of a layer."""

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
        if self.batched or not self.model.has_floors:
            self.measured(self._receive_down, self._launch_down, between)
            return
        wide, summed = wide_label(suffix), sum_label(suffix)

        def write_wide() -> None:
            self.out.label(wide)
            self.out.note("hidden = gated / largest, once more", _WIDE)
            count, drop = self.place.chunk, Type.NONE
            self.receive(Color.ROW_SUM, "drops sums", count=count, d_type=drop, fence_receive=1)
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
            self.load_top()
            self._quantize_hidden(0)
            s(Function.TO_SCALE, d=Reg.A, a=Reg.A, comment="scale of hidden")
            self._launch_down(0)
            self.out.branch(Reg.UNITY, summed, returns=True)

        self._launch_down(0)
        self._load_floor(Reg.B)
        self.take(Reg.A, Color.ROW_TOP, "largest magnitude of all columns")
        comment = "1 if it exceeds the floor"
        s(Function.LESS_THAN, d=Reg.T, a=Reg.B, b=Reg.A, comment=comment)
        self.out.branch(Reg.T, wide)
        self.aside.append(write_wide)
        s(Function.TO_SCALE, d=Reg.A, a=Reg.B, comment="scale of hidden")
        self.out.label(summed)
        self._receive_down(0)
        between()

    def _receive_down(self, n: int) -> None:
        self.load_state(n, State.DYNAMIC, Reg.A)
        self._add_to_x(n, "x += hidden Wdown", "down_scale", Reg.A)

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
        at = self.place.at("constants") + 4 * CONSTANTS.index("gate_shift")
        self.out.scalar(Function.LOAD, d=Reg.B, a=Reg.LAYER, imm=at, comment="shift of gate")
        self.load_top()

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

        def gate(n: int, first: int = 0, count: int = p.hidden) -> None:
            ends = first + count == p.hidden
            self.out.vector(
                Op.GATE,
                a_base=p.at("gate_up", n) + 4 * first,
                count=count,
                dynamic=Reg.B,
                d_base=p.at("gated", n) + 4 * first,
                continues=first > 0,
                fence_receive=1,
                comment="gated = SiLU(gate) up",
                **(self.sent(Color.ROW_MAX) if ends else {"statistic": 1}),
            )

        if self.batched:
            self.overlapped(receive, self.launch_gate)
        for n in self.active:
            if self.batched:
                gate(n)
            else:
                for span in spans:
                    receive(n, *span)
                    gate(n, *span)
        if self.model.has_floors:
            self._load_floor(SAVED if self.batched else Reg.B)
        if self.model.has_floors and not self.batched:
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.B)
            self._quantize_hidden(0, fence_pipe=1)
            return
        for n in self.active:
            self.take(Reg.A, Color.ROW_TOP, "largest magnitude of all columns")
            if self.model.has_floors:
                s(Function.LESS_THAN, d=Reg.B, a=Reg.A, b=SAVED, comment="1 if below the floor")
                s(Function.SELECT, d=Reg.A, a=SAVED, b=Reg.A, dynamic=Reg.B)
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
            self._quantize_hidden(n)
            s(Function.TO_SCALE, d=Reg.A, a=Reg.A, comment="scale of hidden")
            self.store_state(n, State.DYNAMIC, Reg.A)

    def _load_floor(self, register: Reg) -> None:
        at = self.place.at("constants") + WORD_BYTES * CONSTANTS.index("hidden_floor")
        comment = "floor of the largest magnitude"
        self.out.scalar(Function.LOAD, d=register, a=Reg.LAYER, imm=at, comment=comment)

    def _quantize_hidden(self, n: int, **fields: Any) -> None:
        self.quantize(n, "gated", "hidden", self.place.hidden, Reg.B, **fields)
