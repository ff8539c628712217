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
from diptych_sim.compiler.decode.placement import CONSTANTS, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import INT16, Piece
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.machine import top_word

__all__ = ["LayerWriter"]

LATE_PAIRS = 4
"""Pairs of gate and up that GATE takes in a second instruction."""


class LayerWriter(AttentionWriter):
    """Writes pieces of a layer."""

    def norm(self, launch: Piece | None, meanwhile: Callable[[], None] = lambda: None) -> None:
        """RMSNorm: ``normed`` and its dynamic scale; without the scale after the last layer.

        ``meanwhile`` is written where the sum of squares travels. ``launch`` is the product that follows, None after the last layer. That of a single sequence
        begins here, while its scale is computed: it must not wait in the pipe for a RECEIVE that
        comes behind another sequence's norm.
        """
        last = launch is None
        p = self.place
        self.send(Reg.MAXIMUM, Color.COLUMN_MAX, "largest magnitude of x", fence_receive=True)
        self._load_top()
        for n in self.active:
            # The epsilon behind x has up to 16 bits, the others never more than their own.
            fields: dict[str, Any] = {}
            if not last:
                fields = {
                    "inner": self.model.square_shift,
                    "count_reg": Reg.HAS_EPSILON,
                    **self.sent(Color.COLUMN_ADD),
                }
            self._quantize(n, "x", "normed", p.chunk, Color.COLUMN_TOP, bits=16, **fields)
            if launch is not None and not self.batched:
                launch(n)
        meanwhile()
        for n in self.active if not last else ():
            self.take(
                Reg.A,
                Color.COLUMN_SUM,
                "sum of squares of all rows",
                function=Function.TAKE_RSQRT,
            )
            self.store_state(n, State.DYNAMIC, Reg.A)

    def _load_top(self) -> None:
        bits = self.model.activation_bits
        comment = f"scale word of {2 ** (bits - 1) - 1}"
        self.out.scalar(Function.ADD, d=Reg.T, imm=top_word(bits), comment=comment)

    def _quantize(
        self, n: int, source: str, target: str, count: int, largest: Color, **fields: Any
    ) -> None:
        """Write int32 as activations, with the scale in T.

        The ``largest`` of hidden elements stays in A: it is their scale.
        """
        p = self.place
        if largest is Color.COLUMN_TOP:
            what = "largest magnitude of all rows"
            self.take(Reg.B, largest, what, function=Function.TAKE_RECIPROCAL)
        else:
            self.take(Reg.A, largest, "largest magnitude of all columns")
            self.out.scalar(Function.RECIPROCAL, d=Reg.B, a=Reg.A)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at(source, n),
            a_type=Type.INT32,
            count=count,
            b_reg=Reg.T,
            dynamic=Reg.B,
            d_base=p.at(target, n),
            d_type=p.activation_type,
            comment=f"{target} = {source} / largest",
            **fields,
        )

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
        """Load what :meth:`gate` needs beside its products; T has the top since the norm."""
        at = self.place.at("constants") + 4 * CONSTANTS.index("gate_shift")
        self.out.scalar(Function.LOAD, d=Reg.B, a=Reg.LAYER, imm=at, comment="shift of gate")

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
            bits = self.model.activation_bits
            self._quantize(n, "gated", "hidden", p.hidden, Color.ROW_TOP, bits=bits)
            s(Function.TO_SCALE, d=Reg.A, a=Reg.A, comment="scale of hidden")
            self.store_state(n, State.DYNAMIC, Reg.A)
