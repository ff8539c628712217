# SPDX-License-Identifier: BSD-2-Clause
"""Writes instructions of a decode program, for one sequence or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.placement import Placement, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["INT16", "SAVED", "Piece", "PieceWriter"]

SAVED = Reg.TURN
"""Register that keeps the statistic of one sequence while the next one's is received."""
INT16: dict[str, Any] = {"bits": 16, "d_type": Type.INT16, "stride": 2}
"""Fields of what is received as int16, one element behind the other."""

Piece = Callable[[int], None]


class PieceWriter:
    """Writes what all pieces of a layer are made of, for the sequences ``active``."""

    def __init__(self, model: QuantizedModel, placement: Placement, out: Assembler) -> None:
        self.model = model
        self.place = placement
        self.head_dim = placement.width
        self.batched = placement.sequences > 1
        self.active: Sequence[int] = (0,)
        self.out = out
        self.aside: list[Callable[[], None]] = []
        """What is written behind a round, as most tiles, or most layers, pass it by."""

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

    def send_zeros(self, count: int, color: Color, comment: str) -> None:
        """Send zeros on a color, as a product without inputs."""
        self.out.vector(
            Op.MATVEC, count=count, to_color=1, color=color, fence_pipe=1, comment=comment
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
