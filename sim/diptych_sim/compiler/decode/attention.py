# SPDX-License-Identifier: BSD-2-Clause
"""Attention of a layer: queries, keys and values, scores, powers and contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.head_norms import HeadNormWriter
from diptych_sim.compiler.decode.norm import NormWriter
from diptych_sim.compiler.decode.placement import AT_ONCE, CONSTANTS, FEW_HEADS, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import INT16, SAVED
from diptych_sim.compiler.tile.registers import Register as Reg

__all__ = ["APART", "OF_POSITIONS", "AttentionWriter", "attention_end"]

APART = "without positions"
"""Operation of rows that hold no positions, in place of :data:`OF_POSITIONS`."""
OF_POSITIONS = ("scores", "contexts")
"""Operations of rows that hold positions."""

RECIPROCALS = (Reg.A, Reg.T, SAVED, Reg.SLOT)
"""Registers for the reciprocals of heads that are on their way at once; a single sequence of
:data:`.FEW_HEADS` heads uses two, for the others have its state."""
IN_FABRIC = 12
"""Wavelets of a color that the fabric takes of every tile, even if none takes a result: those that fit
into two buffers of the middle tile, on the way in and on the way to its core, less some on their
way."""


def attention_end(suffix: str) -> str:
    """Return the label of what is behind attention."""
    return f"attended{suffix}"


class AttentionWriter(HeadNormWriter, NormWriter):
    """Writes attention, from the product of a norm to the contexts."""

    def launch_projection(self, n: int) -> None:
        """Start the product for Q, K and V."""
        if n == self.active[0]:
            what = "k, q, v = normed Wk, normed Wq, normed Wv; RoPE of q and k"
            self.out.note(what, "queries, keys, values")
        rows = (self.place.heads + 2 * self.place.kv_heads) * self.head_dim
        self.product_of_norm(n, "kqv", "[k q v] = normed Wkqv", a_reg=Reg.LAYER, count=rows)

    def find_rows_apart(self) -> None:
        """Find out whether the row holds no position."""
        if self.place.rows_apart:
            what = "1 in rows without positions"
            self.out.scalar(Function.LESS_THAN, d=Reg.B, a=Reg.COUNT, imm=1, comment=what)

    def attention(self, suffix: str) -> None:
        """Write attention behind the product of its norm, to the contexts.

        A single sequence's rows without positions go another way: what they add to others' results is sent
        before queries come, so that it is never waited for.
        """
        apart, behind = f"attention.apart{suffix}", attention_end(suffix)

        def write_apart() -> None:
            self.out.label(apart)
            self.out.note("context of a row without positions", APART)
            self.take_squares()
            for items in self._at_once():
                self._attend_apart(items, first=items[0] == (0, 0))
            self.out.branch(Reg.UNITY, behind, returns=True)

        if self.place.rows_apart:
            self.out.branch(Reg.B, apart)
            self.aside.append(write_apart)
        self.take_squares()
        self.project()
        self.attend()
        self.out.label(behind)

    def project(self) -> None:
        """Q, K and V of the column's heads, rotated; K and V go to the cache."""
        p, d = self.place, self.head_dim
        heads = p.kv_heads + p.heads
        normed = self.model.config.qk_norm
        early = not (self.batched or normed)
        # A single sequence's first heads are rotated while others come. The product ends only if
        # the fabric holds what no RECEIVE takes until then: v.
        first = heads
        if early and p.kv_heads * d <= IN_FABRIC:
            first = max(p.kv_heads, heads // 2)

        def receive(n: int) -> None:
            self.load_state(n, State.DYNAMIC, Reg.A)
            self._receive_heads(n, 0, first)
            if early:
                self._rotate_k(n)
            if first < heads:
                self._receive_heads(n, first, heads - first)
                self._rotate_q(n, 0, first - p.kv_heads)
                self._rotate_q(n, first - p.kv_heads, heads - first, fence_receive=1)
            self._receive_v(n)

        self.overlapped(receive, self.launch_projection)
        for n in self.active if normed else ():
            self.normalize_heads(n)
        for n in self.active if first == heads else ():
            if not early:
                self._rotate_k(n)
            self._rotate_q(n, 0, p.heads)

    def _receive_heads(self, n: int, first: int, count: int) -> None:
        """Receive some of the keys and queries."""
        d = self.head_dim
        self.receive(
            Color.COLUMN_SUM,
            "k and q as int16",
            count=count * d,
            d_base=self.place.at("kq", n) + 2 * d * first,
            **self._projected(first * d),
            **INT16,
        )

    def _receive_v(self, n: int) -> None:
        p, d = self.place, self.head_dim
        self.load_state(n, State.SLOT, Reg.SLOT)
        comment = "where v of the position goes"
        self.out.scalar(Function.ADD, d=Reg.B, a=Reg.LAYER, b=Reg.SLOT, comment=comment)
        self.receive(
            Color.COLUMN_SUM,
            "v as int8, into the cache",
            count=p.kv_heads * d,
            bits=8,
            d_base=p.at("values", n),
            d_reg=Reg.B,
            d_type=Type.INT8,
            stride=p.value_stride,
            **self._projected((p.kv_heads + p.heads) * d),
        )

    def _projected(self, first: int) -> dict[str, Any]:
        """Return fields that scale keys, queries and values, from ``first`` on."""
        return self.scaled("kqv_scale", first=first, biased=self.model.config.qkv_bias)

    def _rotated(self, n: int) -> dict[str, Any]:
        """Fields of a ROTATE that rotates heads by the factors of a sequence's position."""
        return {"b_base": self.place.at("rope", n), "inner": self.head_dim // 2}

    def _rotate_k(self, n: int) -> None:
        p, s, d = self.place, self.out.scalar, self.head_dim
        self.load_state(n, State.SLOT, Reg.SLOT)
        s(
            Function.MULTIPLY,
            d=Reg.B,
            a=Reg.SLOT,
            b=Reg.LAYER,
            imm=2 * d,
            comment="where k of the position goes",
        )
        if n == self.active[0]:
            at = p.at("constants")
            s(Function.LOAD, d=Reg.T, a=Reg.LAYER, imm=at, comment="score scale")
        self.out.vector(
            Op.ROTATE,
            a_base=p.at("kq", n),
            count=p.kv_heads * d // 2,
            d_base=p.at("keys", n),
            d_reg=Reg.B,
            stride=(p.slots + 1) * 2 * d,
            fence_receive=1,
            fence_pipe=int(self.model.config.qk_norm),
            comment="RoPE of k, into the cache",
            **self._rotated(n),
        )

    def _rotate_q(self, n: int, head: int, count: int, **fields: Any) -> None:
        """RoPE of some queries, none perhaps."""
        p, d = self.place, self.head_dim
        if count:
            self.out.vector(
                Op.ROTATE,
                a_base=p.at("kq", n) + 2 * d * (p.kv_heads + head),
                count=count * d // 2,
                d_base=p.at("query", n) + 2 * d * head,
                stride=2 * d,
                fence_pipe=int(self.model.config.qk_norm),
                comment="RoPE of q",
                **self._rotated(n),
                **fields,
            )

    def attend(self) -> None:
        """Attention of all sequences and heads, as many at once as the fabric can hold."""
        for number, items in enumerate(self._at_once()):
            if number:
                at = self.place.at("constants")
                self.out.scalar(Function.LOAD, d=Reg.T, a=Reg.LAYER, imm=at, comment="score scale")
            self._attend(items)

    def _at_once(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the sequences and heads whose attention is on its way at once."""
        items = [(n, head) for n in self.active for head in range(self.place.heads)]
        at_once = AT_ONCE if self.place.in_memory else FEW_HEADS
        for start in range(0, len(items), at_once):
            yield items[start : start + at_once]

    def _attend_apart(self, items: Sequence[tuple[int, int]], *, first: bool) -> None:
        """Attention of a row without positions, which adds nothing to any sum.

        What comes ``first`` is received behind keys, queries and values, which it drops.
        """
        p, d = self.place, self.head_dim
        lowest = -(2**31)
        if first:
            count = (p.heads + 2 * p.kv_heads) * d
            self.receive(Color.COLUMN_SUM, "k, q, v", count=count, d_type=Type.NONE)
        self.out.scalar(Function.ADD, d=Reg.A, imm=lowest, comment="of a row without positions")
        for _ in items:
            self.send(Reg.A, Color.COLUMN_MAX, "largest score of the row")
        count = len(items) * (1 + d)
        self.send_zeros(count, Color.COLUMN_ADD, "no powers, of no positions")
        for _ in items:
            self.take(Reg.A, Color.COLUMN_TOP, "largest score of all rows")
        self._load_context_scale()
        self._take_sums(items)
        for index, item in enumerate(items):
            self._invert_sum(index)
            self._receive_context(index, *item)

    def _loaded(self, items: Sequence[tuple[int, int]], *words: State) -> Iterator[Any]:
        """Go through items, loading words of the state whenever another sequence comes."""
        registers = {State.COUNT: Reg.COUNT, State.WORDS: Reg.WORDS}
        before = None
        for index, (n, head) in enumerate(items):
            for word in words if n != before else ():
                self.load_state(n, word, registers[word])
            before = n
            yield index, n, head

    def _score(self, n: int, head: int, kv_head: int, **fields: Any) -> None:
        """Start the product of a head's query, or of the column's part of it, and its keys."""
        p, d = self.place, self.head_dim
        self.out.vector(
            Op.MATVEC,
            a_base=p.at("keys", n) + kv_head * (p.slots + 1) * 2 * d,
            a_reg=Reg.LAYER,
            b_base=p.at("query", n) + head * 2 * d,
            count_reg=Reg.COUNT,
            inner=d // 8,
            stride=2 * d,
            planes=1,
            d_type=Type.INT32,
            comment=f"scores = K q of head {head}",
            **fields,
        )

    def _shared_scores(
        self,
        items: Sequence[tuple[int, int]],
        kv: Callable[[int], int],
        scores: Callable[[int], int],
    ) -> None:
        """Scores of heads that columns share: sums of what each has of them, and the largest."""
        loaded = self._loaded(items, State.COUNT)

        def launch(count: int) -> None:
            for index, n, head in islice(loaded, count):
                fields = {"to_color": 1, "color": Color.GROUP_ADD, "fence_pipe": index == 0}
                self._score(n, head, kv(head), **fields)

        def receive(index: int) -> None:
            lowest = -(2**31)
            self.out.scalar(
                Function.ADD, d=Reg.MAXIMUM, imm=lowest, comment="of a row without positions"
            )
            self.receive(
                Color.GROUP_SUM,
                "scores, and the largest",
                count_reg=Reg.COUNT,
                d_base=scores(index),
                d_type=Type.INT32,
                stride=4,
                statistic=1,
            )

        # A maximum waits behind the sums in the pipe, and these for their RECEIVE, if the fabric
        # does not hold them.
        ahead = IN_FABRIC // self.place.slots
        launch(1)
        receive(0)
        launch(1 + ahead)
        what = "largest score of the row"
        for index in range(1, len(items)):
            self.out.scalar(Function.ADD, d=Reg.B, a=Reg.MAXIMUM, fence_receive=True, comment=what)
            receive(index)
            self.send(Reg.B, Color.COLUMN_MAX, what)
            launch(1)
        self.send(Reg.MAXIMUM, Color.COLUMN_MAX, what, fence_receive=True)

    def _attend(self, items: Sequence[tuple[int, int]]) -> None:
        """Scores, maxima over all rows, exponentials and their sums, sums of V."""
        p, d = self.place, self.head_dim
        group = self.model.config.heads // self.model.config.kv_heads

        def kv(head: int) -> int:
            return head // group if p.heads >= group else 0

        def scores(index: int) -> int:
            return p.at("scores") + index * 4 * p.slots

        def powers(index: int) -> int:
            return p.at("powers") + index * -(-p.slots // 8) * 16

        self.out.note("scores = q K^T", "scores")
        loaded = self._loaded(items, State.COUNT)
        if p.split == 1:
            for index, n, head in loaded:
                fields = {"d_base": scores(index), "fence_pipe": index == 0}
                self._score(n, head, kv(head), **fields, **self.sent(Color.COLUMN_MAX))
        else:
            self._shared_scores(items, kv, scores)
        self.out.note("context = softmax(scores) V", "contexts")
        for index, _, _ in self._loaded(items, State.COUNT):
            self.take(Reg.A, Color.COLUMN_TOP, "largest score of all rows")
            self.out.vector(
                Op.EXPONENTIAL,
                a_base=scores(index),
                b_reg=Reg.A,
                count_reg=Reg.COUNT,
                dynamic=Reg.T,
                d_base=powers(index),
                bits=self.model.activation_bits,
                fence_pipe=index == 0,
                # A row's zeros stay zeros, unless sequences share their place.
                accumulate=not self.batched,
                comment="powers = exp(scores - largest), and their sum",
                **self.sent(Color.COLUMN_ADD),
            )

        def product(index: int, n: int, head: int) -> None:
            self.out.vector(
                Op.MATVEC,
                a_base=p.at("values", n) + kv(head) * d * p.value_stride,
                a_reg=Reg.LAYER,
                b_base=powers(index),
                fence_pipe=index == 0,
                count=d,
                inner_reg=Reg.WORDS,
                stride=p.value_stride,
                a_type=Type.INT16,
                to_color=1,
                color=Color.COLUMN_ADD,
                comment=f"powers V of head {head}",
            )

        self._load_context_scale()
        loaded = self._loaded(items, State.WORDS)
        # One in the pipe and one in its queue; the program goes on to take sums only if the fabric
        # holds what those before send.
        ahead = 2 + max(0, (IN_FABRIC - len(items)) // d)
        for following in islice(loaded, ahead):
            product(*following)
        self._take_sums(items)
        for index, item in enumerate(items):
            self._invert_sum(index)
            if index:
                for following in islice(loaded, 1):
                    product(*following)
            self._receive_context(index, *item)

    def _load_context_scale(self) -> None:
        at = self.place.at("constants") + 4 * CONSTANTS.index("context_scale")
        self.out.scalar(Function.LOAD, d=Reg.B, a=Reg.LAYER, imm=at, comment="context scale")

    def _take_sums(self, items: Sequence[tuple[int, int]]) -> None:
        """Take the sums of powers; the first one's reciprocal."""
        what = "sum of powers of all rows"
        for register, _ in zip(RECIPROCALS, items, strict=False):
            if register is RECIPROCALS[0]:
                function = Function.TAKE_RECIPROCAL
                self.take(register, Color.COLUMN_SUM, what, function=function, fence_receive=True)
            else:
                self.take(register, Color.COLUMN_SUM, what)

    def _invert_sum(self, index: int) -> None:
        register = RECIPROCALS[index]
        if index:
            self.out.scalar(Function.RECIPROCAL, d=register, a=register)

    def _receive_context(self, index: int, n: int, head: int) -> None:
        p, d = self.place, self.head_dim
        self.receive(
            Color.COLUMN_SUM,
            "context = powers V / sum",
            count=d,
            b_reg=Reg.B,
            dynamic=RECIPROCALS[index],
            bits=self.model.activation_bits,
            d_base=p.at("context", n) + head * d * p.activation_bytes,
            d_type=p.activation_type,
            stride=p.activation_bytes,
        )
