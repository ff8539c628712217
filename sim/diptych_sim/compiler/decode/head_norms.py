# SPDX-License-Identifier: BSD-2-Clause
"""RMSNorm of each query and key, in a column or over the columns that share it."""

from __future__ import annotations

from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.placement import CONSTANTS
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import PieceWriter
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.machine import HEAD_BITS, top_word

__all__ = ["HeadNormWriter"]

_ON_THEIR_WAY = 8
"""Heads whose magnitudes, or sums of squares, travel at once."""


class HeadNormWriter(PieceWriter):
    """Writes norms of heads: each is normalized in its place, behind the product."""

    def normalize_heads(self, n: int) -> None:
        """RMSNorm of each key and query of a sequence."""
        comment = f"scale word of {2 ** (HEAD_BITS - 1) - 1}"
        self.out.scalar(Function.ADD, d=Reg.T, imm=top_word(HEAD_BITS), comment=comment)
        heads = range(self.place.kv_heads + self.place.heads)
        if self.place.split == 1:
            for head in heads:
                self._normalize(n, head)
        else:
            for first in heads[::_ON_THEIR_WAY]:
                self._normalize_shared(n, heads[first : first + _ON_THEIR_WAY])

    def _normalize(self, n: int, head: int) -> None:
        """RMSNorm of a head that the column has alone."""
        s = self.out.scalar
        self._measure(n, head, fence_pipe=1)
        s(Function.RECIPROCAL, d=Reg.B, a=Reg.STATISTIC, fence_pipe=True)
        self._divide(n, head)
        s(Function.RSQRT, d=Reg.B, a=Reg.STATISTIC, fence_pipe=True)
        self._scale(n, head)

    def _normalize_shared(self, n: int, heads: range) -> None:
        """RMSNorm of some heads that columns share."""
        for head in heads:
            self._measure(n, head, **self.sent(Color.GROUP_MAX))
        for head in heads:
            what, function = "largest magnitude of all columns", Function.TAKE_RECIPROCAL
            self.take(Reg.B, Color.GROUP_TOP, what, function=function)
            self._divide(n, head, **self.sent(Color.GROUP_ADD))
        for head in heads:
            what, function = "sum of squares of all columns", Function.TAKE_RSQRT
            self.take(Reg.B, Color.GROUP_SUM, what, function=function)
            self._scale(n, head)

    def _name(self, head: int) -> str:
        return "k" if head < self.place.kv_heads else "q"

    def _at(self, n: int, head: int) -> int:
        return self.place.at("kq", n) + 2 * self.head_dim * head

    def _measure(self, n: int, head: int, **fields: Any) -> None:
        self.out.vector(
            Op.MOVE,
            a_base=self._at(n, head),
            a_type=Type.INT16,
            d_type=Type.NONE,
            count=self.head_dim,
            fence_receive=1,
            comment=f"largest magnitude of {self._name(head)}",
            **{"statistic": 1} | fields,
        )

    def _divide(self, n: int, head: int, **fields: Any) -> None:
        """Divide a head by the largest magnitude, whose reciprocal is in B; sum its squares."""
        name = self._name(head)
        scaled: dict[str, Any] = {"b_reg": Reg.T, "dynamic": Reg.B, "statistic": 1}
        self.out.vector(
            Op.REQUANTIZE,
            a_base=self.place.at("constants") + 4 * CONSTANTS.index(f"{name}_epsilon"),
            a_reg=Reg.LAYER,
            a_type=Type.INT32,
            count=1,
            bits=16,
            d_type=Type.NONE,
            comment="epsilon is one more element",
            **scaled,
        )
        self.out.vector(
            Op.REQUANTIZE,
            a_base=self._at(n, head),
            a_type=Type.INT16,
            count=self.head_dim,
            bits=HEAD_BITS,
            d_base=self._at(n, head),
            d_type=Type.INT16,
            continues=1,
            comment=f"{name} / largest",
            **scaled | fields,
        )

    def _scale(self, n: int, head: int) -> None:
        """Scale a head by its gains, and by the reciprocal root in B."""
        name = self._name(head)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=self._at(n, head),
            a_type=Type.INT16,
            count=self.head_dim,
            bits=16,
            d_base=self._at(n, head),
            d_type=Type.INT16,
            comment=f"RMSNorm of {name}",
            **self.scaled(f"{name}_norm", dynamic=Reg.B),
        )
