# SPDX-License-Identifier: BSD-2-Clause
"""RMSNorm of the residual stream, by the rows' largest magnitudes, or by those of the norm before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.decode.placement import CONSTANTS, WORD_BYTES, Placement, State
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.decode.writer import Piece, PieceWriter
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register as Reg
from diptych_sim.golden.machine import top_word
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["Norm", "NormWriter", "Norms", "norms_of"]

_LARGEST = "largest magnitude of all rows"


@dataclass(frozen=True)
class Norm:
    """A norm of the program, in all layers that it runs in.

    Attributes
    ----------
    name : str
        Of its labels.
    tops : tuple of int
        Its scale word in each of these layers; 0 where it takes the magnitude of its own row.
    """

    name: str
    tops: tuple[int, ...]

    @property
    def by_own(self) -> bool:
        """In some layer it waits for the largest magnitude of its own row."""
        return not all(self.tops)

    @property
    def by_before(self) -> bool:
        """In some layer it takes the magnitude of the norm before."""
        return any(self.tops)

    def labels(self, suffix: str) -> tuple[str, str, str]:
        """Return the label of what runs only where its own row counts, of what else does, and of what follows."""
        own, scaled, behind = (f"{self.name}.{n}{suffix}" for n in ("own", "scaled", "behind"))
        return own, scaled, behind

    def row_is_there(self, suffix: str) -> str:
        """Return the label of what goes when the first row is in memory, and its magnitude known."""
        return f"{self.name}.row{suffix}"


@dataclass(frozen=True)
class Norms:
    """The norms of a program: ahead of attention, of the gated network, and behind the layers."""

    attention: Norm
    mlp: Norm
    final: Norm

    @property
    def kept(self) -> bool:
        """Whether some norm needs the magnitude of the one before."""
        return any(norm.by_before for norm in (self.attention, self.mlp, self.final))


def norms_of(model: QuantizedModel) -> Norms:
    """Return the norms of a model's program."""
    tops = (0, *model.norm_tops)
    return Norms(Norm("attention", tops[:-1:2]), Norm("mlp", tops[1::2]), Norm("final", tops[-1:]))


class NormWriter(PieceWriter):
    """Writes norms of the residual stream.

    A norm by its own row waits until the row's largest magnitude has been to the middle of the column
    and back. One by the norm before does not: the magnitude travels ahead of the sum of squares, for
    the next norm.
    """

    def __init__(self, model: QuantizedModel, placement: Placement, out: Assembler) -> None:
        super().__init__(model, placement, out)
        self.norms = norms_of(model)

    # --- magnitudes ----------------------------------------------------------------------------
    def prepare_norm(self, name: str, *norms: Norm) -> None:
        """Load T for norms that take the magnitude before; it is 0 in layers where they do not.

        ``name`` is that of their word in the layer's constants. A single sequence's sum of squares
        begins here, with the epsilon.
        """
        if any(norm.by_before for norm in norms):
            at = self.place.at("constants") + WORD_BYTES * CONSTANTS.index(name)
            comment = "top of the norm, or 0 if it is by its own row"
            self.out.scalar(Function.LOAD, d=Reg.T, a=Reg.LAYER, imm=at, comment=comment)
            if not self.batched:
                self._square_epsilon(0)

    def keep_magnitude(self) -> None:
        """Keep the largest magnitude of ``x``, in columns that do not normalize it here."""
        self._send_magnitude()
        self.take_magnitudes()

    def take_magnitudes(self) -> None:
        """Take the largest magnitudes of all sequences, for the norm behind."""
        if not self.batched:
            self._take_inverse()
            return
        for n in self.active:
            self.receive(
                Color.COLUMN_TOP,
                _LARGEST,
                count=1,
                bits=0,
                d_base=self.place.at("state", n) + WORD_BYTES * State.LARGEST,
                d_type=Type.INT32,
                stride=WORD_BYTES,
            )

    def _send_magnitude(self) -> None:
        """Send the last sequence's largest magnitude; those of the others were sent by then."""
        self.send(Reg.MAXIMUM, Color.COLUMN_MAX, "largest magnitude of x", fence_receive=True)

    def _take_inverse(self) -> None:
        self.take(Reg.INVERSE, Color.COLUMN_TOP, _LARGEST, function=Function.TAKE_RECIPROCAL)

    def _take_own(self, n: int) -> None:
        """Take the magnitude of a sequence's row, for this norm and perhaps for that behind it."""
        if self.batched and self.norms.kept:
            self.take(Reg.A, Color.COLUMN_TOP, _LARGEST)
            self.store_state(n, State.LARGEST, Reg.A)
            self.out.scalar(Function.RECIPROCAL, d=Reg.INVERSE, a=Reg.A)
        else:
            self._take_inverse()

    def _exchange_for_own(self) -> None:
        """Take magnitudes of their own rows instead, and send them again, as for the norm behind."""
        self.load_top()
        for n in self.active:
            self.take(Reg.A, Color.COLUMN_TOP, _LARGEST)
            self.send(Reg.A, Color.COLUMN_MAX, "once more, for the norm behind")
            self.store_state(n, State.LARGEST, Reg.A)
            if not self.batched:
                self.out.scalar(Function.RECIPROCAL, d=Reg.INVERSE, a=Reg.A)

    def load_top(self) -> None:
        """Load the scale word of the largest activation."""
        bits = self.model.activation_bits
        comment = f"scale word of {2 ** (bits - 1) - 1}"
        self.out.scalar(Function.ADD, d=Reg.T, imm=top_word(bits), comment=comment)

    # --- norms ---------------------------------------------------------------------------------
    def norm(
        self,
        norm: Norm,
        suffix: str,
        launch: Piece | None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """RMSNorm: ``normed``, and if ``launch`` is given, sums of squares, for :meth:`take_squares`.

        ``launch`` is the product that follows. That of a single sequence begins here, while its scale
        is computed: it must not wait in the pipe for a RECEIVE that comes behind another sequence's
        norm. ``meanwhile`` is written where the sum of squares travels. Behind the last layer,
        :meth:`take_magnitudes` must follow if the norm takes the magnitude before.
        """
        sums = launch is not None
        if norm.by_before and not self.batched:
            self._norm_by_before(norm, suffix, sums=sums)
        else:
            self._norm_rows(norm, suffix, sums=sums)
        if launch is not None and not self.batched:
            launch(0)
        meanwhile()
        if norm.by_before and norm is not self.norms.final:
            self.take_magnitudes()

    def _norm_by_before(self, norm: Norm, suffix: str, *, sums: bool) -> None:
        """A single sequence's norm by the norm before, or in some layers by its own row.

        Which it is, is decided before the row is there.
        """
        own, scaled, behind = norm.labels(suffix)
        if norm.by_own:
            self.out.branch(Reg.T, scaled)
            self.out.label(own)
            self._send_magnitude()
            self._exchange_for_own()
            if sums:
                self._square_epsilon(0)
            self._divide_x(0, sums=sums)
            self.out.branch(Reg.UNITY, behind)
            self.out.label(scaled)
        # It reads elements while the last ones are written.
        self._divide_x(0, sums=sums, fence_receive=1, planes=1)
        self.out.label(norm.row_is_there(suffix))
        self._send_magnitude()
        if norm.by_own:
            self.out.label(behind)

    def _norm_rows(self, norm: Norm, suffix: str, *, sums: bool) -> None:
        """Norms of all sequences, or that of a single one by its own row in all layers."""
        self._send_magnitude()
        if not norm.by_before:
            self.load_top()
        elif norm.by_own:
            own, scaled, behind = norm.labels(suffix)
            self.out.branch(Reg.T, scaled)
            self.out.label(own)
            self._exchange_for_own()
            self.out.label(scaled)
            self.out.label(behind)
        for n in self.active:
            if not norm.by_before:
                self._take_own(n)
            else:
                self.load_state(n, State.LARGEST, Reg.A)
                self.out.scalar(Function.RECIPROCAL, d=Reg.INVERSE, a=Reg.A)
            if sums:
                self._square_epsilon(n)
            if n == self.active[0]:
                self.out.label(norm.row_is_there(suffix))
            self._divide_x(n, sums=sums)

    def take_squares(self) -> None:
        """Take the reciprocal roots of the sums of squares of a norm's rows."""
        for n in self.active:
            self.take(
                Reg.A,
                Color.COLUMN_SUM,
                "sum of squares of all rows",
                function=Function.TAKE_RSQRT,
            )
            self.store_state(n, State.DYNAMIC, Reg.A)

    def _square_epsilon(self, n: int) -> None:
        """Begin the sum of squares with the epsilon, which is 0 but in one row."""
        self.out.vector(
            Op.REQUANTIZE,
            a_base=self.place.at("x", n) + WORD_BYTES * self.place.chunk,
            a_type=Type.INT32,
            count=1,
            b_reg=Reg.T,
            dynamic=Reg.INVERSE,
            bits=16,
            inner=self.model.square_shift,
            d_type=Type.NONE,
            statistic=1,
            comment="epsilon is one more element",
        )

    def _divide_x(self, n: int, *, sums: bool, **fields: Any) -> None:
        if sums:
            fields |= {
                "inner": self.model.square_shift,
                "continues": 1,
                **self.sent(Color.COLUMN_ADD),
            }
        self.quantize(n, "x", "normed", self.place.chunk, Reg.INVERSE, **fields)

    def quantize(
        self, n: int, source: str, target: str, count: int, inverse: Reg, **fields: Any
    ) -> None:
        """Write int32 as activations, by the scale word in T and the largest one's reciprocal."""
        p = self.place
        self.out.vector(
            Op.REQUANTIZE,
            a_base=p.at(source, n),
            a_type=Type.INT32,
            count=count,
            b_reg=Reg.T,
            dynamic=inverse,
            bits=self.model.activation_bits,
            d_base=p.at(target, n),
            d_type=p.activation_type,
            comment=f"{target} = {source} / largest",
            **fields,
        )
