# SPDX-License-Identifier: BSD-2-Clause
"""A layer of the program that every tile runs to decode tokens.

Each piece runs for all active sequences before the next piece begins, so that the reduction of one
sequence travels while another one is computed. What a piece needs of a sequence, and no register
has room for, stands in the sequence's ``state``.
"""

from __future__ import annotations

from collections.abc import Callable

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.attention import AttentionWriter
from diptych_sim.compiler.decode.norm import NormWriter
from diptych_sim.compiler.decode.placement import CONSTANTS, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import INT16
from diptych_sim.compiler.tile.registers import Register as Reg

__all__ = ["LayerWriter"]

LATE_PAIRS = 4
"""Pairs of gate and up that GATE takes in a second instruction."""


class LayerWriter(AttentionWriter, NormWriter):
    """Writes pieces of a layer."""

    def residual(self, weights: str, between: Callable[[], None]) -> None:
        """Add a product to the residual stream, and measure what it becomes.

        ``between`` is written while the last sequence's product travels.
        """
        p = self.place
        down = weights == "w_down"
        inputs, width, scale, matrix = "context", p.heads * self.head_dim, "o_scale", "Wo"
        if down:
            inputs, width, scale, matrix = "hidden", p.hidden_bytes, "down_scale", "Wdown"

        def receive(n: int) -> None:
            if down:
                self.load_state(n, State.DYNAMIC, Reg.A)
            self.receive(
                Color.ROW_SUM,
                f"x += {inputs} {matrix}",
                count=p.chunk,
                bits=self.model.residual_bits,
                d_base=p.at("x", n),
                d_type=Type.INT32,
                stride=4,
                accumulate=1,
                statistic=1,
                fence_receive=1,
                **self.scaled(scale, dynamic=Reg.A if down else Reg.UNITY),
            )

        def launch(n: int) -> None:
            if not width:
                self.send_zeros(p.chunk, Color.ROW_ADD, "nothing, of no heads")
                return
            self.product(
                weights,
                p.at(inputs, n),
                Color.ROW_ADD,
                f"{inputs} {matrix}",
                a_reg=Reg.LAYER,
                count=p.chunk,
                width=width,
                # Of contexts, which are received; it waits in the pipe.
                fence_receive=not down,
            )

        self.measured(receive, launch, between)

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
        """SwiGLU's hidden elements as activations, and their largest magnitude as a scale."""
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
        for n in self.active:
            self.take(Reg.A, Color.ROW_TOP, "largest magnitude of all columns")
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
            self.quantize(n, "gated", "hidden", p.hidden, Reg.B)
            s(Function.TO_SCALE, d=Reg.A, a=Reg.A, comment="scale of hidden")
            self.store_state(n, State.DYNAMIC, Reg.A)
