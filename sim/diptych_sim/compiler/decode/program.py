# SPDX-License-Identifier: BSD-2-Clause
"""The program that every tile runs to decode tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.embedding import EmbeddingWriter
from diptych_sim.compiler.decode.placement import WORD_BYTES, Placement, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import SAVED
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden import numbers
from diptych_sim.golden.noise import KEY_STEP
from diptych_sim.golden.quantized import QuantizedModel

__all__ = [
    "SEQUENCE_SHIFT",
    "TOKEN_TASK",
    "Rounds",
    "decode_program",
    "plan_rounds",
    "suffix_of",
]

TOKEN_TASK = 0
"""Task that takes a token in register 1, and leaves its successor."""
HEADLESS = ".headless"
"""What ends the labels of columns without heads."""
SEQUENCE_SHIFT = 24
"""A token that leaves the mesh carries its sequence from this bit on."""


@dataclass(frozen=True)
class Rounds:
    """Rounds in which the same sequences are written: a token of each in every round.

    Where they are ``forced``, the successor is the next one of a prompt, and nothing is written.
    """

    active: tuple[int, ...]
    count: int
    forced: bool = False


def plan_rounds(tokens: Sequence[int]) -> list[Rounds]:
    """Return which sequences are written when; ``tokens`` of each, the first being there already.

    A sequence that ends leaves the program: who goes on does not wait for it any more.
    """
    plan = []
    done = 0
    for end in sorted({count - 1 for count in tokens if count > 1}):
        active = tuple(n for n, count in enumerate(tokens) if count - 1 >= end)
        plan.append(Rounds(active, end - done))
        done = end
    return plan or [Rounds(tuple(range(len(tokens))), 0)]


def suffix_of(number: int, placement: Placement) -> str:
    """Return what ends the labels of an element of the plan, in tiles of a kind of column."""
    return f"{f'.{number}' if number else ''}{'' if placement.heads else HEADLESS}"


class _Writer(EmbeddingWriter):
    def __init__(
        self, model: QuantizedModel, placement: Placement, stops: Sequence[int], out: Assembler
    ) -> None:
        super().__init__(model, placement, out)
        self.stops = stops

    def run(self, plan: Sequence[Rounds]) -> None:
        for number, rounds in enumerate(plan):
            self.active = rounds.active
            following = plan[number + 1].count if number + 1 < len(plan) else None
            self._round(number, following, forced=rounds.forced)

    def _round(self, number: int, following: int | None, *, forced: bool) -> None:
        """A round of the active sequences; ``following``: rounds of the sequences that go on."""
        m, p, s, note = self.model, self.place, self.out.scalar, self.out.note
        layers_end = p.layer_bytes * m.config.layers
        suffix, norms = suffix_of(number, p), self.norms
        self.out.label(f"token{suffix}")
        if self.batched:
            note("sequences " + ", ".join(map(str, self.active)), "embedding")
            self._find_tokens()
        if self.stops:
            note("end with the text", "embedding")
            self._end_texts(suffix)
        if self.batched:
            self._positions()
        note("x = embedding[token]", "embedding")
        self.embed(partial(self._meanwhile, forced=forced))
        self.out.label(f"layer{suffix}")
        if p.heads:
            note("normed = RMSNorm(x)", "norm")
            self.norm(norms.attention, suffix, self.launch_projection, self.find_rows_apart)
            self.attention(suffix)
        elif norms.kept:
            note("1 / largest magnitude of x, for the norm behind", "norm")
            self.keep_magnitude()
        note("x += context Wo", "output")
        self.output(partial(self.prepare_norm, "mlp_norm_top", norms.mlp))
        note("normed = RMSNorm(x)", "norm")
        self.norm(norms.mlp, suffix, self.launch_gate, self.prepare_gate)
        self.take_squares()
        self.gate()
        note("x += hidden Wdown", "down")

        def next_layer() -> None:
            self.prepare_norm("next_norm_top", norms.attention, norms.final)
            note("next layer")
            s(Function.ADD, d=Reg.LAYER, a=Reg.LAYER, imm=p.layer_bytes)
            s(
                Function.LESS_THAN,
                d=Reg.A,
                a=Reg.LAYER,
                imm=layers_end,
                comment="there is another layer",
            )
            self.out.branch(Reg.A, f"layer{suffix}")

        self.down(suffix, next_layer)
        note("normed = RMSNorm(x)", "norm")
        drawn = self.model.noise_shift is not None and not forced
        self.norm(norms.final, suffix, self._launch_logits if drawn else None)
        if drawn:
            self.take_squares()
        if forced:
            note("token = the next one of the prompt", "next of the prompt")
            self._forced_tokens()
        else:
            note("token = arg-max(normed Woutput)", "best token")
            self._logits()
        if norms.final.by_before:
            self.take_magnitudes()
        if not forced:
            self._best_tokens(suffix)
        note("next round")
        s(Function.ADD, d=Reg.LEFT, a=Reg.LEFT, imm=-1)
        self.out.branch(Reg.LEFT, f"token{suffix}")
        self.out.label(f"over{suffix}")
        if following is not None:
            s(Function.ADD, d=Reg.LEFT, imm=following, comment="rounds of those that go on")
            s(Function.ACTIVATE, imm=number + 1)
        s(Function.END)
        for write in self.aside:
            write()
        self.aside.clear()

    # --- where a text ends ---------------------------------------------------------------------
    def _compare(self, token: Reg, result: Reg, scratch: Reg) -> None:
        """Make the result 0 where the token ends a text, something else where it does not."""
        s = self.out.scalar
        first, *others = self.stops
        s(Function.ADD, d=result, a=token, imm=-first, comment=f"0 if token {first} ends the text")
        for stop in others:
            s(Function.ADD, d=scratch, a=token, imm=-stop, comment=f"or token {stop}")
            s(Function.SELECT, d=result, a=scratch, dynamic=result)

    def _end_texts(self, suffix: str) -> None:
        """End the program where all tokens of the round before have ended their texts.

        Where some have, the round goes on for the others.
        """
        s = self.out.scalar
        goes_on = Reg.A
        if not self.batched:
            self._compare(Reg.UNITY, goes_on, Reg.B)
        else:
            goes_on = Reg.LAYER
            s(Function.ADD, d=goes_on, comment="1 if a text goes on")
            for n in self.active:
                at = self.place.at("arguments") + WORD_BYTES * n
                s(Function.LOAD, d=Reg.A, imm=at, comment=f"token of sequence {n}")
                self._compare(Reg.A, Reg.T, Reg.B)
                s(Function.SELECT, d=goes_on, imm=1, b=goes_on, dynamic=Reg.T)
        self.out.branch(goes_on, f"text{suffix}")
        s(Function.END)
        self.out.label(f"text{suffix}")

    # --- embedding and position ----------------------------------------------------------------
    def _find_tokens(self) -> None:
        """The last sequence's token comes in its register, the others' stand in memory."""
        last = self.place.sequences - 1
        if last in self.active:
            at = self.place.at("arguments") + 4 * last
            comment = f"token of sequence {last}"
            self.out.scalar(Function.STORE, b=Reg.UNITY, imm=at, comment=comment)
        self.out.scalar(Function.ADD, d=Reg.UNITY, imm=numbers.UNITY, comment="scale word of 1")

    def _meanwhile(self, *, forced: bool) -> None:
        """What is done while the embedding travels."""
        if self.model.noise_shift is not None and not forced:
            self._draw_noise(self.model.noise_shift)
        if not self.batched:
            self._positions()
        if self.norms.attention.by_before:
            self.out.scalar(Function.ADD, d=Reg.T, comment="the first norm is by its own row")

    def _draw_noise(self, shift: int) -> None:
        """Noise for the column's logits; the key of the next position."""
        s = self.out.scalar
        self.out.note("noise for the logits", "noise")
        for n in self.active:
            at = self.place.at("noise_key") + WORD_BYTES * n
            s(Function.LOAD, d=Reg.B, imm=at, comment=f"key of the position, of sequence {n}")
            self.out.vector(
                Op.NOISE,
                a_reg=Reg.FIRST,
                b_reg=Reg.B,
                count_reg=Reg.VOCABULARY,
                inner=shift,
                d_base=self.place.at("noise", n),
                d_type=Type.INT32,
                comment="noise of the column's tokens",
            )
            s(Function.ADD, d=Reg.B, a=Reg.B, imm=KEY_STEP, comment="key of the next one")
            s(Function.STORE, b=Reg.B, imm=at)

    def _positions(self) -> None:
        if self.place.heads:
            self.out.note("the position, and its RoPE factors", "position")
            for n in self.active:
                self._position(n)
        self.out.scalar(Function.ADD, d=Reg.LAYER, comment="layer 0")

    def _position(self, n: int) -> None:
        """Whose position it is, and RoPE's factors, which its owner sends to its column."""
        p, s, d = self.place, self.out.scalar, self.head_dim
        self.load_state(n, State.COUNT, Reg.COUNT)
        self.load_state(n, State.TURN, Reg.TURN)
        s(Function.LESS_THAN, d=Reg.A, a=Reg.TURN, imm=1, comment="the row's turn")
        s(Function.ADD, d=Reg.B, imm=p.slots, comment="a slot of no use")
        s(Function.SELECT, d=Reg.SLOT, a=Reg.COUNT, b=Reg.B, dynamic=Reg.A)
        s(Function.ADD, d=Reg.COUNT, a=Reg.COUNT, b=Reg.A)
        deal = p.positions
        s(Function.AND, d=Reg.T, a=Reg.COUNT, imm=deal.block - 1, comment="0 behind a block")
        s(Function.ADD, d=Reg.B, imm=deal.turns - deal.block)
        s(Function.SELECT, d=Reg.T, b=Reg.B, dynamic=Reg.T)
        s(Function.ADD, d=Reg.B, a=Reg.TURN, imm=-1)
        s(Function.SELECT, d=Reg.TURN, a=Reg.T, b=Reg.B, dynamic=Reg.A)
        s(Function.ADD, d=Reg.T, a=Reg.COUNT, imm=7)
        s(Function.SHIFT_RIGHT, d=Reg.WORDS, a=Reg.T, imm=3)
        s(Function.MULTIPLY, d=Reg.B, a=Reg.SLOT, imm=2 * d)
        s(
            Function.SELECT,
            d=Reg.T,
            a=Reg.UNITY,
            dynamic=Reg.A,
            comment="1 in the row's turn, else 0",
        )
        for word in (State.COUNT, State.TURN, State.SLOT, State.WORDS):
            self.store_state(n, word, Reg[word.name])
        self.receive(
            Color.COLUMN_SUM,
            "RoPE factors of the position",
            count=d // 2,
            b_reg=Reg.UNITY,
            dynamic=Reg.UNITY,
            bits=32,
            d_base=p.at("rope", n),
            d_type=Type.INT32,
            stride=4,
        )
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at("rope_table"),
            a_reg=Reg.B,
            a_type=Type.INT32,
            count=d // 2,
            b_reg=Reg.T,
            dynamic=Reg.UNITY,
            bits=32,
            to_color=1,
            color=Color.COLUMN_ADD,
            comment="RoPE factors, from the row whose turn it is",
        )

    # --- next token ----------------------------------------------------------------------------
    def _forced_tokens(self) -> None:
        """Tokens of the prompts, which stand in memory; of each, as many as rounds are left."""
        p, s = self.place, self.out.scalar
        s(Function.SHIFT_LEFT, d=Reg.A, a=Reg.LEFT, imm=2)
        end = p.at("prompts") + WORD_BYTES * p.forced
        s(Function.SUBTRACT, d=Reg.A, b=Reg.A, imm=end, comment="its place in the first prompt")
        for n in self.active:
            at = WORD_BYTES * p.forced * n
            comment = f"next token of prompt {n}"
            s(Function.LOAD, d=Reg.UNITY, a=Reg.A, imm=at, comment=comment)
            if n != p.sequences - 1:
                at = p.at("arguments") + WORD_BYTES * n
                s(Function.STORE, b=Reg.UNITY, imm=at, comment=f"token of sequence {n}")

    def _launch_logits(self, n: int) -> None:
        self.product_of_norm(n, "output", "logits = normed Woutput", count_reg=Reg.VOCABULARY)

    def _logits(self) -> None:
        """Logits, and the best token of the column; that of the last sequence is not sent yet."""
        m, p, s = self.model, self.place, self.out.scalar
        bits = 32 - m.logit_bits
        first, *others = self.active

        def reset() -> None:
            lowest = -(2**31)
            s(Function.ADD, d=Reg.MAXIMUM, imm=lowest, comment="of a column without tokens")

        def receive(n: int) -> None:
            scaled: dict[str, Any] = {"dynamic": Reg.UNITY}
            if m.noise_shift is not None:
                self.load_state(n, State.DYNAMIC, Reg.A)
                at = p.at("noise", n)
                scaled = {"dynamic": Reg.A, "accumulate": 1, "d_base": at, "stride": WORD_BYTES}
            self.receive(
                Color.COLUMN_SUM,
                "best of (logit, lowest token)",
                count_reg=Reg.VOCABULARY,
                static_memory=1,
                b_base=p.at("output_scale"),
                a_reg=Reg.B,
                bits=m.logit_bits,
                inner=bits,
                d_type=Type.NONE,
                argmax=1,
                **scaled,
            )

        reset()
        s(
            Function.SUBTRACT,
            d=Reg.B,
            b=Reg.FIRST,
            imm=2**bits - 1,
            comment="code of the first token",
        )
        receive(first)
        # A single sequence's product was launched with its norm, if tokens are drawn.
        if self.batched or m.noise_shift is None:
            self._launch_logits(first)
        for n in others:
            self._launch_logits(n)
            s(
                Function.ADD,
                d=SAVED,
                a=Reg.MAXIMUM,
                fence_receive=True,
                comment="best of the column",
            )
            reset()
            receive(n)
            self.send(SAVED, Color.ROW_MAX, "best of the column")
        self.send(Reg.MAXIMUM, Color.ROW_MAX, "best of the column", fence_receive=True)

    def _best_tokens(self, suffix: str) -> None:
        p, s = self.place, self.out.scalar
        mask = 2 ** (32 - self.model.logit_bits) - 1
        for n in self.active:
            self.take(Reg.A, Color.ROW_TOP, "best of all columns")
            s(Function.AND, d=Reg.A, a=Reg.A, imm=mask)
            s(Function.SUBTRACT, d=Reg.UNITY, b=Reg.A, imm=mask, comment="the token")
            at = p.at("arguments") + WORD_BYTES * n if self.batched else 0
            ended = f"ended{suffix}.{n}"
            if self.batched and self.stops:
                s(Function.LOAD, d=Reg.B, imm=at, comment=f"token before, of sequence {n}")
                self._compare(Reg.B, Reg.T, Reg.A)
                comment = "what ended a text stays"
                s(
                    Function.SELECT,
                    d=Reg.UNITY,
                    a=Reg.UNITY,
                    b=Reg.B,
                    dynamic=Reg.T,
                    comment=comment,
                )
                s(Function.LESS_THAN, d=Reg.A, a=Reg.T, imm=1)
            if n != p.sequences - 1:
                s(Function.STORE, b=Reg.UNITY, imm=at, comment=f"token of sequence {n}")
            if self.batched and self.stops:
                self.out.branch(Reg.A, ended)
            self.send(Reg.UNITY, Color.TOKEN, "to the host", imm=n << SEQUENCE_SHIFT)
            if self.batched and self.stops:
                self.out.label(ended)


def decode_program(
    model: QuantizedModel, placement: Placement, plan: Sequence[Rounds], stops: Sequence[int] = ()
) -> Assembler:
    """Return the program that decodes tokens with a placed model.

    It is the same in all tiles; what differs is in registers and in memory, and where columns are of
    two kinds, in the task: behind the program of columns with heads is that of the others. In a round, the token
    of each active sequence goes to the residual stream, through the layers and the final RMSNorm
    to its successor, which starts the next round and leaves on :attr:`.Color.TOKEN`. Each element
    of the plan (:func:`plan_rounds`) has rounds, and a task, of its own.

    A token of ``stops`` ends its sequence: no round starts once all active ones have ended. Before
    that, rounds compute those that have ended, too, but their tokens do not leave.
    """
    out = Assembler()
    for kind in placement.programs:
        _Writer(model, kind, stops, out).run(plan)
    return out
