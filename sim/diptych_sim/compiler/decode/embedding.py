# SPDX-License-Identifier: BSD-2-Clause
"""How a token gets into the residual stream."""

from __future__ import annotations

from collections.abc import Callable

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.layer import LayerWriter
from diptych_sim.compiler.decode.placement import WORD_BYTES
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import SAVED
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden import numbers

__all__ = ["EmbeddingWriter"]


class EmbeddingWriter(LayerWriter):
    """Writes the embedding of the tokens that a round begins with."""

    def embed(self, between: Callable[[], None]) -> None:
        """``x`` of all sequences, and its largest magnitude; ``between`` as of :meth:`.measured`."""
        if self.place.one_copy:
            self.measured(self._receive_rest, self._launch_codes, between)
        else:
            self.measured(self._receive_embedding, self._launch_embedding, between)

    def _receive_embedding(self, n: int) -> None:
        self._receive_x(n, "x")

    def _receive_rest(self, n: int) -> None:
        self._receive_x(n, "x += the rest", accumulate=1)

    def _receive_x(self, n: int, comment: str, **fields: int) -> None:
        self.receive(
            Color.ROW_SUM,
            comment,
            count=self.place.chunk,
            b_reg=Reg.UNITY,
            dynamic=Reg.UNITY,
            bits=self.model.residual_bits,
            d_base=self.place.at("x", n),
            d_type=Type.INT32,
            stride=4,
            statistic=1,
            **fields,
        )

    def _look_up(self, n: int) -> None:
        """Find the token's codes, and its scale, which is 0 in columns that do not know it."""
        p, s = self.place, self.out.scalar
        token = Reg.UNITY
        if self.batched:
            token = Reg.A
            at = p.at("arguments") + 4 * n
            s(Function.LOAD, d=Reg.A, imm=at, comment=f"token of sequence {n}")
        s(Function.SUBTRACT, d=Reg.A, a=token, b=Reg.FIRST)
        s(
            Function.LESS_THAN,
            d=Reg.B,
            a=Reg.A,
            imm=p.vocabulary,
            comment="the column knows the token",
        )
        s(Function.SELECT, d=Reg.A, a=Reg.A, dynamic=Reg.B)
        s(Function.SHIFT_LEFT, d=Reg.T, a=Reg.A, imm=2)
        scales = "embedding_scale" if "embedding_scale" in p.fixed else "output_scale"
        s(Function.LOAD, d=Reg.T, a=Reg.T, imm=p.at(scales), comment="its scale")
        if scales == "output_scale":
            ratio = self.model.tie_ratio
            s(Function.ADD, d=self._scratch, imm=ratio, comment="of embedding and output")
            s(Function.COMBINE, d=Reg.T, a=Reg.T, b=self._scratch)
        s(Function.SELECT, d=Reg.T, a=Reg.T, dynamic=Reg.B, comment="0 in other columns")
        s(Function.MULTIPLY, d=Reg.A, a=Reg.A, imm=p.chunk, comment="its place in the embedding")
        if not self.batched:
            unity = numbers.UNITY
            s(Function.ADD, d=Reg.UNITY, imm=unity, comment="scale word of 1")

    @property
    def _scratch(self) -> Reg:
        """A register that nobody needs ahead of the layers."""
        return SAVED if self.batched else Reg.LAYER

    def _launch_embedding(self, n: int) -> None:
        """The owner of the token sends its row's part of the embedding; the others send zeros."""
        p = self.place
        self._look_up(n)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("embedding"),
            a_reg=Reg.A,
            a_type=Type.INT8,
            count=p.chunk,
            b_reg=Reg.T,
            dynamic=Reg.UNITY,
            bits=self.model.residual_bits,
            to_color=1,
            color=Color.ROW_ADD,
            comment="embedding of the token, from its column",
        )

    def _launch_codes(self, n: int) -> None:
        """The same with the codes of the output, and their product with what is left of it.

        A column has some elements of the product. It sends on those that are its row's, and zeros.
        """
        p, s = self.place, self.out.scalar
        self._look_up(n)
        comment = "1 in the column that knows the token"
        s(Function.SELECT, d=self._scratch, a=Reg.UNITY, dynamic=Reg.B, comment=comment)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("output"),
            a_reg=Reg.A,
            a_type=Type.INT8,
            count=p.chunk,
            b_reg=self._scratch,
            dynamic=Reg.UNITY,
            bits=8,
            to_color=1,
            color=Color.ROW_ADD,
            comment="codes of the token, from its column",
        )
        plain = {"b_reg": Reg.UNITY, "dynamic": Reg.UNITY}
        self.receive(
            Color.ROW_SUM,
            "codes of the token",
            count=p.chunk,
            bits=8,
            d_base=p.at("normed", n),
            d_type=p.activation_type,
            stride=p.activation_bytes,
            **plain,
        )
        # Only now: the fabric may be full of codes that wait for their RECEIVE.
        self.send(Reg.T, Color.ROW_ADD, "their scale")
        self.take(Reg.T, Color.ROW_SUM, "their scale", fence_receive=True)
        self.product_of_norm(n, "tie", "codes times the rest", count=p.tied)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("normed", n),
            a_type=p.activation_type,
            count=p.chunk,
            b_reg=Reg.T,
            dynamic=Reg.UNITY,
            bits=self.model.residual_bits,
            d_base=p.at("x", n),
            d_type=Type.INT32,
            comment="x = codes of the token",
        )
        self.receive(
            Color.COLUMN_SUM,
            "the rest of the column's elements",
            count=p.tied,
            static_memory=1,
            b_base=p.at("tie_scale"),
            dynamic=Reg.T,
            bits=32,
            d_base=p.at("tied") + WORD_BYTES * p.chunk,
            d_type=Type.INT32,
            stride=WORD_BYTES,
        )
        s(Function.LOAD, d=Reg.A, imm=p.at("tied_place"), comment="where those of the row begin")
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("tied"),
            a_reg=Reg.A,
            a_type=Type.INT32,
            count=p.chunk,
            bits=32,
            to_color=1,
            color=Color.ROW_ADD,
            fence_receive=1,
            comment="those of the row",
            **plain,
        )
