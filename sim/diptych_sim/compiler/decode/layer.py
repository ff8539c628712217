# SPDX-License-Identifier: BSD-2-Clause
"""A layer of the program that every tile runs to decode tokens.

Each piece runs for all active sequences before the next piece begins, so that the reduction of one
sequence travels while another one is computed. What a piece needs of a sequence, and no register
has room for, stands in the sequence's ``state``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.placement import AT_ONCE, CONSTANTS, FEW_HEADS, Placement, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.machine import HEAD_BITS, top_word
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["INT16", "SAVED", "LayerWriter"]

SAVED = Reg.TURN
"""Register that keeps the statistic of one sequence while the next one's is received."""
RECIPROCALS = (Reg.A, Reg.T, SAVED, Reg.SLOT)
"""Registers for the reciprocals of heads that are on their way at once; a single sequence of
:data:`.FEW_HEADS` heads uses two, for the others have its state."""
IN_FABRIC = 16
"""Wavelets of a color that the fabric takes of every tile, even if none takes a result: the buffers
of the middle tile, on the way in and on the way to its core."""
LATE_PAIRS = 4
"""Pairs of gate and up that GATE takes in a second instruction."""
INT16: dict[str, Any] = {"bits": 16, "d_type": Type.INT16, "stride": 2}
"""Fields of what is received as int16, one element behind the other."""

Piece = Callable[[int], None]


class LayerWriter:
    """Writes pieces of a layer for the sequences ``active``."""

    def __init__(self, model: QuantizedModel, placement: Placement) -> None:
        self.model = model
        self.place = placement
        self.head_dim = placement.width
        self.batched = placement.sequences > 1
        self.active: Sequence[int] = (0,)
        self.out = Assembler()

    # --- instructions --------------------------------------------------------------------------
    def send(self, register: Reg, color: Color, comment: str, **fields: Any) -> None:
        """Send a register on a color."""
        self.out.scalar(Function.SEND, a=register, color=color, comment=comment, **fields)

    def take(
        self,
        register: Reg,
        color: Color,
        comment: str,
        *,
        function: Function = Function.TAKE,
        **fields: Any,
    ) -> None:
        """Take a wavelet, or a function of it, into a register."""
        self.out.scalar(function, d=register, color=color, comment=comment, **fields)

    def receive(self, color: Color, comment: str, **fields: Any) -> None:
        """Receive a reduction's result in the background."""
        self.out.vector(Op.RECEIVE, color=color, comment=comment, **fields)

    def product(
        self, weights: str, inputs: int, color: Color, comment: str, *, width: int, **fields: Any
    ) -> None:
        """Start a matrix-vector product of rows of ``width`` bytes, whose sums leave on a color."""
        at = self.place.at
        self.out.vector(
            Op.MATVEC,
            a_base=at(weights),
            a_type=self.place.activation_type,
            b_base=inputs,
            inner=width // 8,
            stride=width,
            to_color=1,
            color=color,
            fence_pipe=1,
            comment=comment,
            **fields,
        )

    def product_of_norm(self, n: int, weights: str, comment: str, **fields: Any) -> None:
        """Start a product of a sequence's ``normed``, whose sums meet in the columns."""
        p = self.place
        self.product(weights, p.at("normed", n), Color.COLUMN_ADD, comment, width=p.chunk, **fields)

    def sent(self, color: Color) -> dict[str, Any]:
        """Return fields that send an instruction's statistic on a color."""
        return {"statistic": 1, "sends_statistic": 1, "color": color}

    def scaled(
        self, scale: str, *, first: int = 0, dynamic: Reg = Reg.A, biased: bool = False
    ) -> dict[str, Any]:
        """Return fields that scale by a layer's words, from word ``first`` on, and a register.

        ``biased``: a bias stands behind each word.
        """
        return {
            "static_memory": 1,
            "biased": int(biased),
            "b_base": self.place.at(scale) + (8 if biased else 4) * first,
            "b_reg": Reg.LAYER,
            "dynamic": dynamic,
        }

    def load_state(self, n: int, word: State, register: Reg) -> None:
        """Load a word of a sequence's state, unless it stands in its register anyway."""
        if word in self.place.in_memory:
            at = self.place.at("state", n) + 4 * word
            comment = f"{word.name.lower()} of sequence {n}"
            self.out.scalar(Function.LOAD, d=register, imm=at, comment=comment)

    def store_state(self, n: int, word: State, register: Reg) -> None:
        """Store a word of a sequence's state, unless it stays in its register."""
        if word in self.place.in_memory:
            at = self.place.at("state", n) + 4 * word
            comment = f"{word.name.lower()} of sequence {n}"
            self.out.scalar(Function.STORE, b=register, imm=at, comment=comment)

    # --- several sequences ---------------------------------------------------------------------
    def overlapped(self, receive: Piece, launch: Piece) -> None:
        """Launch a product of each sequence beside the results of the one before.

        A product may start before its RECEIVE: the results wait in the fabric, and
        whoever comes first needs nothing of them.
        """
        for n in self.active:
            # A single sequence's product was launched with its norm.
            if self.batched:
                launch(n)
            receive(n)

    def measured(self, receive: Piece, launch: Piece, between: Callable[[], None]) -> None:
        """Do the same where each result has a statistic, which leaves for the next RMSNorm.

        Its register holds one sequence's: it is saved before the next sequence is received. That of
        the last sequence leaves with the norm.
        """
        first, *others = self.active
        launch(first)
        receive(first)
        for before, n in pairwise([first, *others]):
            launch(n)
            what = f"largest magnitude of sequence {before}"
            self.out.scalar(Function.ADD, d=SAVED, a=Reg.MAXIMUM, fence_receive=True, comment=what)
            receive(n)
            self.send(SAVED, Color.COLUMN_MAX, "its largest magnitude")
        between()

    # --- pieces of a layer ---------------------------------------------------------------------
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

    def launch_projection(self, n: int) -> None:
        """Start the product for Q, K and V."""
        if n == self.active[0]:
            what = "q, k, v = normed Wq, normed Wk, normed Wv; RoPE of q and k"
            self.out.note(what, "queries, keys, values")
        rows = (self.place.heads + 2 * self.place.kv_heads) * self.head_dim
        self.product_of_norm(n, "qkv", "[q k v] = normed Wqkv", a_reg=Reg.LAYER, count=rows)

    def project(self) -> None:
        """Q, K and V of the column's heads, rotated; K and V go to the cache."""
        p, s, d = self.place, self.out.scalar, self.head_dim
        qk, v = (p.heads + p.kv_heads) * d, p.kv_heads * d
        biased, normed = self.model.config.qkv_bias, self.model.config.qk_norm
        early = not (self.batched or normed)

        def receive(n: int) -> None:
            receive_qk(n)
            # A single sequence's k is rotated while v comes.
            if early:
                self._rotate_k(n)
            receive_v(n)

        def receive_qk(n: int) -> None:
            self.load_state(n, State.DYNAMIC, Reg.A)
            self.receive(
                Color.COLUMN_SUM,
                "q and k as int16",
                count=qk,
                d_base=p.at("qk", n),
                **self.scaled("qkv_scale", biased=biased),
                **INT16,
            )

        def receive_v(n: int) -> None:
            self.load_state(n, State.SLOT, Reg.SLOT)
            s(
                Function.ADD,
                d=Reg.B,
                a=Reg.LAYER,
                b=Reg.SLOT,
                comment="where v of the position goes",
            )
            self.receive(
                Color.COLUMN_SUM,
                "v as int8, into the cache",
                count=v,
                bits=8,
                d_base=p.at("values", n),
                d_reg=Reg.B,
                d_type=Type.INT8,
                stride=p.value_stride,
                **self.scaled("qkv_scale", first=qk, biased=biased),
            )

        self.overlapped(receive, self.launch_projection)
        for n in self.active if normed else ():
            self._normalize_heads(n)
        for n in self.active:
            if not early:
                self._rotate_k(n)
            self.out.vector(
                Op.ROTATE,
                a_base=p.at("qk", n),
                count=p.heads * d // 2,
                d_base=p.at("query", n),
                stride=2 * d,
                fence_pipe=int(self.model.config.qk_norm),
                comment="RoPE of q",
                **self._rotated(n),
            )

    def _normalize_heads(self, n: int) -> None:
        """RMSNorm of each query and key, in place."""
        p, s, d = self.place, self.out.scalar, self.head_dim
        comment = f"scale word of {2 ** (HEAD_BITS - 1) - 1}"
        s(Function.ADD, d=Reg.T, imm=top_word(HEAD_BITS), comment=comment)
        for head in range(p.heads + p.kv_heads):
            name = "q" if head < p.heads else "k"
            at = p.at("qk", n) + 2 * d * head
            self.out.vector(
                Op.MOVE,
                a_base=at,
                a_type=Type.INT16,
                d_type=Type.NONE,
                count=d,
                statistic=1,
                fence_pipe=1,
                fence_receive=1,
                comment=f"largest magnitude of {name}",
            )
            s(Function.RECIPROCAL, d=Reg.B, a=Reg.STATISTIC, fence_pipe=True)
            scaled: dict[str, Any] = {"b_reg": Reg.T, "dynamic": Reg.B, "statistic": 1}
            self.out.vector(
                Op.REQUANTIZE,
                a_base=p.at("constants") + 4 * (CONSTANTS.index(f"{name}_epsilon")),
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
                a_base=at,
                a_type=Type.INT16,
                count=d,
                bits=HEAD_BITS,
                d_base=p.at("head"),
                d_type=Type.INT16,
                continues=1,
                comment=f"{name} / largest",
                **scaled,
            )
            s(Function.RSQRT, d=Reg.B, a=Reg.STATISTIC, fence_pipe=True)
            self.out.vector(
                Op.REQUANTIZE,
                a_base=p.at("head"),
                a_type=Type.INT16,
                count=d,
                bits=16,
                d_base=at,
                d_type=Type.INT16,
                comment=f"RMSNorm of {name}",
                **self.scaled(f"{name}_norm", dynamic=Reg.B),
            )

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
            a_base=p.at("qk", n) + 2 * p.heads * d,
            count=p.kv_heads * d // 2,
            d_base=p.at("keys", n),
            d_reg=Reg.B,
            stride=(p.slots + 1) * 2 * d,
            fence_receive=1,
            fence_pipe=int(self.model.config.qk_norm),
            comment="RoPE of k, into the cache",
            **self._rotated(n),
        )

    def attend(self) -> None:
        """Attention of all sequences and heads, as many at once as the fabric can hold."""
        items = [(n, head) for n in self.active for head in range(self.place.heads)]
        at_once = AT_ONCE if self.place.in_memory else FEW_HEADS
        for start in range(0, len(items), at_once):
            if start:
                at = self.place.at("constants")
                self.out.scalar(Function.LOAD, d=Reg.T, a=Reg.LAYER, imm=at, comment="score scale")
            self._attend(items[start : start + at_once])

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
            fence_pipe=1,
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

        def launch(_index: int, n: int, head: int) -> None:
            self._score(n, head, kv(head), to_color=1, color=Color.GROUP_ADD)

        launch(*next(loaded))
        for index in range(len(items)):
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
            for following in islice(loaded, 1):
                launch(*following)
            self.send(Reg.MAXIMUM, Color.COLUMN_MAX, "largest score of the row", fence_receive=True)

    def _attend(self, items: Sequence[tuple[int, int]]) -> None:
        """Scores, maxima over all rows, exponentials and their sums, sums of V."""
        p, s, d = self.place, self.out.scalar, self.head_dim
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
                self._score(n, head, kv(head), d_base=scores(index), **self.sent(Color.COLUMN_MAX))
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
                fence_pipe=1,
                comment="powers = exp(scores - largest), and their sum",
                **self.sent(Color.COLUMN_ADD),
            )

        def product(index: int, n: int, head: int) -> None:
            self.out.vector(
                Op.MATVEC,
                a_base=p.at("values", n) + kv(head) * d * p.value_stride,
                a_reg=Reg.LAYER,
                b_base=powers(index),
                fence_pipe=1,
                count=d,
                inner_reg=Reg.WORDS,
                stride=p.value_stride,
                a_type=Type.INT16,
                to_color=1,
                color=Color.COLUMN_ADD,
                comment=f"powers V of head {head}",
            )

        loaded = self._loaded(items, State.WORDS)
        # One in the pipe and one in its queue; the program goes on to take sums only if the fabric
        # holds what those before send.
        ahead = 2 + max(0, (IN_FABRIC - len(items)) // d)
        for following in islice(loaded, ahead):
            product(*following)
        at = p.at("constants") + 4 * CONSTANTS.index("context_scale")
        s(Function.LOAD, d=Reg.B, a=Reg.LAYER, imm=at, comment="context scale")
        for index in range(len(items)):
            register = RECIPROCALS[index]
            fence = index == 0
            self.take(
                register,
                Color.COLUMN_SUM,
                "sum of powers of all rows",
                function=Function.TAKE_RECIPROCAL,
                fence_receive=fence,
            )
        for index, (n, head) in enumerate(items):
            for following in islice(loaded, int(index > 0)):
                product(*following)
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

    def residual(self, weights: str, between: Callable[[], None]) -> None:
        """Add a product to the residual stream, and measure what it becomes.

        ``between`` is written while the last sequence's product travels.
        """
        p = self.place
        down = weights == "w_down"
        inputs, width, scale, matrix = "context", p.heads * self.head_dim, "o_scale", "Wo"
        if down:
            inputs, width, scale, matrix = "hidden", p.hidden, "down_scale", "Wdown"

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
