# SPDX-License-Identifier: BSD-2-Clause
"""The program that every tile runs to decode tokens."""

from __future__ import annotations

from typing import Any

from diptych.mesh.fabric import BUFFER_DEPTH
from diptych.mesh.isa import (
    ARGUMENT,
    RECEIVED_MAXIMUM,
    RECEIVED_SQUARES,
    STATISTIC,
    Function,
    Op,
    Type,
)
from diptych_sim.compiler.assembler import Assembler
from diptych_sim.compiler.placement import Placement
from diptych_sim.compiler.routes import Color
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import STEPS
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["COUNT", "FIRST", "LEFT", "TOKEN_TASK", "TURN", "VOCABULARY", "WORDS", "decode_program"]

TOKEN_TASK = 0
"""Task that takes a token in register 1, and leaves its successor."""

FIRST = 2
"""Register: the first token of the tile's column."""
VOCABULARY = 3
"""Register: number of tokens of the column."""
COUNT = 4
"""Register: positions that the row holds."""
TURN = 5
"""Register: tokens until it is the row's turn to hold one."""
LEFT = 6
"""Register: tokens that are still to be written."""
WORDS = 9
"""Register: words of 8 positions that the row holds."""
_LAYER = 7
_SLOT = 8
_A, _B, _T = 10, 11, 15
_UNITY = ARGUMENT  # once the token has been looked up


class _Writer:
    def __init__(self, model: QuantizedModel, placement: Placement) -> None:
        self.model = model
        self.place = placement
        self.head_dim = model.config.head_dim
        self.out = Assembler()

    def run(self) -> Assembler:
        m, p = self.model, self.place
        layers_end = p.layer_bytes * m.config.layers
        self._embed()
        self._position()
        self.out.label("layer")
        self._norm()
        self._project()
        for start in range(0, p.heads, BUFFER_DEPTH):
            self._attend(range(start, min(start + BUFFER_DEPTH, p.heads)))
        self._residual("wo", "o_scale", "context", p.heads * self.head_dim, dynamic=_UNITY)
        self._norm()
        self._gate()
        self._residual("w_down", "down_scale", "hidden", p.hidden, dynamic=_A)
        s = self.out.scalar
        s(Function.ADD, d=_LAYER, a=_LAYER, imm=p.layer_bytes)
        s(Function.BELOW, d=_A, a=_LAYER, imm=layers_end)
        self.out.branch(_A, "layer")
        self._norm(last=True)
        self._next_token()
        return self.out

    # --- pieces --------------------------------------------------------------------------------
    def _send(self, register: int, color: Color, **fences: Any) -> None:
        self.out.scalar(Function.SEND, a=register, color=color, **fences)

    def _take(self, register: int, color: Color, **fences: Any) -> None:
        self.out.scalar(Function.TAKE, d=register, color=color, **fences)

    def _receive(self, color: Color, **fields: Any) -> None:
        self.out.vector(Op.RECEIVE, color=color, **fields)

    def _matvec(self, weights: str, inputs: str, color: Color, **fields: Any) -> None:
        at = self.place.at
        self.out.vector(
            Op.MATVEC, a_base=at(weights), b_base=at(inputs), to_color=1, color=color, **fields
        )

    def _embed(self) -> None:
        """The owner of the token sends its row's part of the embedding; the others send zeros."""
        self.out.operation = "embedding"
        p, s = self.place, self.out.scalar
        self.out.label("token")
        s(Function.SUBTRACT, d=_A, a=ARGUMENT, b=FIRST)
        s(Function.BELOW, d=_B, a=_A, imm=p.vocabulary, comment="the column knows the token")
        s(Function.SELECT, d=_A, a=_A, dynamic=_B)
        s(Function.SHIFT_LEFT, d=_T, a=_A, imm=2)
        s(Function.LOAD, d=_T, a=_T, imm=p.at("embedding_scale"))
        s(Function.SELECT, d=_T, a=_T, dynamic=_B)
        s(Function.MULTIPLY, d=_A, a=_A, imm=p.chunk)
        s(Function.ADD, d=_UNITY, imm=numbers.UNITY)
        self._receive(
            Color.ROW_SUM,
            count=p.chunk,
            b_reg=_UNITY,
            dynamic=_UNITY,
            bits=16,
            d_base=p.at("x"),
            d_type=Type.INT16,
            stride=2,
            statistic=1,
            inner=self.model.square_shift,
        )
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("embedding"),
            a_reg=_A,
            a_type=Type.INT8,
            count=p.chunk,
            b_reg=_T,
            dynamic=_UNITY,
            bits=16,
            to_color=1,
            color=Color.ROW_ADD,
        )

    def _position(self) -> None:
        """Whose position it is, and RoPE's factors, which its owner sends to its column."""
        self.out.operation = "position"
        p, s, d = self.place, self.out.scalar, self.head_dim
        s(Function.BELOW, d=_A, a=TURN, imm=1, comment="the row's turn")
        s(Function.ADD, d=_B, imm=p.slots)
        s(Function.SELECT, d=_SLOT, a=COUNT, b=_B, dynamic=_A)
        s(Function.ADD, d=COUNT, a=COUNT, b=_A)
        s(Function.ADD, d=_B, a=TURN, imm=-1)
        s(Function.SELECT, d=TURN, b=_B, imm=p.rows - 1, dynamic=_A)
        s(Function.ADD, d=_T, a=COUNT, imm=7)
        s(Function.SHIFT_RIGHT, d=WORDS, a=_T, imm=3)
        s(Function.MULTIPLY, d=_B, a=_SLOT, imm=2 * d)
        s(Function.SELECT, d=_T, a=_UNITY, dynamic=_A)
        self._receive(
            Color.COLUMN_SUM,
            count=d // 2,
            b_reg=_UNITY,
            dynamic=_UNITY,
            bits=32,
            d_base=p.at("rope"),
            d_type=Type.INT32,
            stride=4,
        )
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("rope_table"),
            a_reg=_B,
            a_type=Type.INT32,
            count=d // 2,
            b_reg=_T,
            dynamic=_UNITY,
            bits=32,
            to_color=1,
            color=Color.COLUMN_ADD,
        )
        s(Function.ADD, d=_LAYER)

    def _norm(self, *, last: bool = False) -> None:
        """RMSNorm: ``normed``, and its dynamic scale in a register (not after the last layer)."""
        self.out.operation = "norm"
        p, s = self.place, self.out.scalar
        if not last:
            self._send(RECEIVED_SQUARES, Color.COLUMN_ADD, fence_receive=True)
        self._send(RECEIVED_MAXIMUM, Color.COLUMN_MAX, fence_receive=True)
        s(Function.ADD, d=_T, imm=STEPS)
        self._take(_A, Color.COLUMN_TOP)
        s(Function.RECIPROCAL, d=_B, a=_A)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("x"),
            a_type=Type.INT16,
            count=p.chunk,
            b_reg=_T,
            dynamic=_B,
            bits=8,
            d_base=p.at("normed"),
            d_type=Type.INT8,
        )
        if last:
            return
        self._take(_B, Color.COLUMN_SUM)
        s(Function.RSQRT, d=_B, a=_B, imm=self.model.epsilon)
        s(Function.TO_SCALE, d=_A, a=_A)
        s(Function.COMBINE, d=_A, a=_A, b=_B)

    def _project(self) -> None:
        """Q, K and V of the column's heads, rotated; K and V go to the cache."""
        self.out.operation = "queries, keys, values"
        p, s, d = self.place, self.out.scalar, self.head_dim
        qk, v = (p.heads + p.kv_heads) * d, p.kv_heads * d
        scaled: dict[str, Any] = {"static_memory": 1, "b_reg": _LAYER, "dynamic": _A}
        self._receive(
            Color.COLUMN_SUM,
            count=qk,
            b_base=p.at("qkv_scale"),
            bits=16,
            d_base=p.at("qk"),
            d_type=Type.INT16,
            stride=2,
            **scaled,
        )
        s(Function.ADD, d=_B, a=_LAYER, b=_SLOT)
        self._receive(
            Color.COLUMN_SUM,
            count=v,
            b_base=p.at("qkv_scale") + 4 * qk,
            bits=8,
            d_base=p.at("values"),
            d_reg=_B,
            d_type=Type.INT8,
            stride=p.value_stride,
            **scaled,
        )
        self._matvec(
            "qkv",
            "normed",
            Color.COLUMN_ADD,
            a_reg=_LAYER,
            count=qk + v,
            inner=p.chunk // 8,
            stride=p.chunk,
            fence_pipe=1,
        )
        s(Function.MULTIPLY, d=_B, a=_SLOT, b=_LAYER, imm=2 * d)
        s(Function.LOAD, d=_T, a=_LAYER, imm=p.at("constants"), comment="score scale")
        rotated: dict[str, Any] = {"b_base": p.at("rope"), "inner": d // 2}
        self.out.vector(
            Op.ROTATE,
            a_base=p.at("qk") + 2 * p.heads * d,
            count=p.kv_heads * d // 2,
            d_base=p.at("keys"),
            d_reg=_B,
            stride=(p.slots + 1) * 2 * d,
            fence_receive=1,
            **rotated,
        )
        self.out.vector(
            Op.ROTATE,
            a_base=p.at("qk"),
            count=p.heads * d // 2,
            d_base=p.at("query"),
            stride=2 * d,
            **rotated,
        )

    def _attend(self, heads: range) -> None:
        """Attention of some heads: scores, maxima over all rows, exponentials, sums of V."""
        p, s, d = self.place, self.out.scalar, self.head_dim
        config = self.model.config
        group = config.heads // config.kv_heads

        def kv(head: int) -> int:
            return head // group if p.heads >= group else 0

        def scores(head: int) -> int:
            return p.at("scores") + (head - heads.start) * 4 * p.slots

        self.out.operation = "scores"
        for head in heads:
            self.out.vector(
                Op.MATVEC,
                a_base=p.at("keys") + kv(head) * (p.slots + 1) * 2 * d,
                a_reg=_LAYER,
                b_base=p.at("query") + head * 2 * d,
                count_reg=COUNT,
                inner=d // 8,
                stride=2 * d,
                planes=1,
                d_base=scores(head),
                d_type=Type.INT32,
                statistic=1,
                fence_pipe=1,
            )
            self._send(STATISTIC, Color.COLUMN_MAX, fence_pipe=True)
        self.out.operation = "contexts"
        for head in heads:
            self._take(_A, Color.COLUMN_TOP)
            self.out.vector(
                Op.EXPONENTIAL,
                a_base=scores(head),
                b_reg=_A,
                count_reg=COUNT,
                dynamic=_T,
                d_base=p.at("powers"),
                statistic=1,
            )
            self._send(STATISTIC, Color.COLUMN_ADD, fence_pipe=True)
            self.out.vector(
                Op.MATVEC,
                a_base=p.at("values") + kv(head) * d * p.value_stride,
                a_reg=_LAYER,
                b_base=p.at("powers"),
                count=d,
                inner_reg=WORDS,
                stride=p.value_stride,
                unsigned=1,
                to_color=1,
                color=Color.COLUMN_ADD,
            )
            s(Function.LOAD, d=_B, a=_LAYER, imm=p.at("constants") + 4, comment="context scale")
            self._take(_A, Color.COLUMN_SUM, fence_receive=True)
            s(Function.RECIPROCAL, d=_A, a=_A)
            self._receive(
                Color.COLUMN_SUM,
                count=d,
                b_reg=_B,
                dynamic=_A,
                bits=8,
                d_base=p.at("context") + head * d,
                d_type=Type.INT8,
                stride=1,
            )

    def _residual(self, weights: str, scale: str, inputs: str, width: int, *, dynamic: int) -> None:
        """Adds a product to the residual stream, and measures what it becomes."""
        self.out.operation = {"wo": "output", "w_down": "down"}[weights]
        p = self.place
        self._receive(
            Color.ROW_SUM,
            count=p.chunk,
            static_memory=1,
            b_base=p.at(scale),
            b_reg=_LAYER,
            dynamic=dynamic,
            bits=32,
            d_base=p.at("x"),
            d_type=Type.INT16,
            stride=2,
            accumulate=1,
            statistic=1,
            inner=self.model.square_shift,
            fence_receive=1,
        )
        self._matvec(
            weights,
            inputs,
            Color.ROW_ADD,
            a_reg=_LAYER,
            count=p.chunk,
            inner=width // 8,
            stride=width,
            fence_pipe=1,
        )

    def _gate(self) -> None:
        """SwiGLU's hidden elements as int8; their largest magnitude as a scale in a register."""
        self.out.operation = "gate and up"
        p, s = self.place, self.out.scalar
        self._receive(
            Color.COLUMN_SUM,
            count=2 * p.hidden,
            static_memory=1,
            b_base=p.at("gate_up_scale"),
            b_reg=_LAYER,
            dynamic=_A,
            bits=16,
            d_base=p.at("gate_up"),
            d_type=Type.INT16,
            stride=2,
        )
        self._matvec(
            "w_gate_up",
            "normed",
            Color.COLUMN_ADD,
            a_reg=_LAYER,
            count=2 * p.hidden,
            inner=p.chunk // 8,
            stride=p.chunk,
            fence_pipe=1,
        )
        s(Function.LOAD, d=_B, a=_LAYER, imm=p.at("constants") + 8, comment="hidden scale")
        s(Function.ADD, d=_T, imm=STEPS)
        self.out.vector(
            Op.GATE,
            a_base=p.at("gate_up"),
            count=p.hidden,
            dynamic=_B,
            d_base=p.at("gated"),
            statistic=1,
            fence_receive=1,
        )
        self._send(STATISTIC, Color.ROW_MAX, fence_pipe=True)
        self._take(_A, Color.ROW_TOP)
        s(Function.RECIPROCAL, d=_B, a=_A)
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("gated"),
            a_type=Type.INT16,
            count=p.hidden,
            b_reg=_T,
            dynamic=_B,
            bits=8,
            d_base=p.at("hidden"),
            d_type=Type.INT8,
        )
        s(Function.TO_SCALE, d=_A, a=_A)

    def _next_token(self) -> None:
        """Logits, the best token of all columns, and the next round."""
        self.out.operation = "best token"
        m, p, s = self.model, self.place, self.out.scalar
        bits = 32 - m.logit_bits
        mask = 2**bits - 1
        s(Function.ADD, d=RECEIVED_MAXIMUM, imm=-(2**31), comment="of a column without tokens")
        s(Function.SUBTRACT, d=_B, b=FIRST, imm=mask)
        self._receive(
            Color.COLUMN_SUM,
            count_reg=VOCABULARY,
            static_memory=1,
            b_base=p.at("output_scale"),
            a_reg=_B,
            dynamic=_UNITY,
            bits=m.logit_bits,
            inner=bits,
            d_type=Type.NONE,
            argmax=1,
        )
        self._matvec(
            "output",
            "normed",
            Color.COLUMN_ADD,
            count_reg=VOCABULARY,
            inner=p.chunk // 8,
            stride=p.chunk,
            fence_pipe=1,
        )
        self._send(RECEIVED_MAXIMUM, Color.ROW_MAX, fence_receive=True)
        self._take(_A, Color.ROW_TOP)
        s(Function.AND, d=_A, a=_A, imm=mask)
        s(Function.SUBTRACT, d=ARGUMENT, b=_A, imm=mask)
        self._send(ARGUMENT, Color.TOKEN)
        s(Function.ADD, d=LEFT, a=LEFT, imm=-1)
        self.out.branch(LEFT, "again")
        s(Function.END)
        self.out.label("again")
        s(Function.ACTIVATE, imm=TOKEN_TASK)
        s(Function.END)


def decode_program(model: QuantizedModel, placement: Placement) -> Assembler:
    """Return the program that decodes tokens with a placed model.

    It is the same in all tiles; what differs is in registers :data:`FIRST` to :data:`LEFT` and in
    memory. The token goes to the residual stream, through the layers and the final RMSNorm to its
    successor, which starts the next round and leaves on :attr:`.Color.TOKEN`.
    """
    return _Writer(model, placement).run()
