# SPDX-License-Identifier: BSD-2-Clause
"""Assembles programs of a tile (:mod:`diptych.mesh.isa`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

from diptych.mesh.isa import INSTRUCTION_WORDS, REGISTERS, Function, Instruction, Op, Tail, Type

__all__ = ["Assembler", "AssemblerError", "disassemble"]

_REGISTER_FIELDS = ("d_reg", "a_reg", "b_reg", "dynamic", "count_reg", "inner_reg")


class AssemblerError(ValueError):
    """A field of an instruction is out of range."""


@cache
def _fields(layout: type[data.StructLayout]) -> dict[str, tuple[int, int]]:
    return {str(name): (f.offset, Shape.cast(f.shape).width) for name, f in layout()}  # type: ignore[call-arg]


def _pack(layout: type[data.StructLayout], values: Mapping[str, Any], what: str) -> int:
    fields = _fields(layout)
    bits = 0
    for name, value in values.items():
        offset, width = fields[name]
        number = int(getattr(value, "value", value))
        limit = min(2**width, REGISTERS) if name in _REGISTER_FIELDS else 2**width
        if number not in range(limit):
            raise AssemblerError(f"{what}: {name} must be in range({limit}), not {number!r}")
        bits |= number << offset
    return bits


def disassemble(instruction: int) -> tuple[Op, Function, dict[str, int]]:
    """Return what an instruction is, and its fields: what :class:`Assembler` was given.

    A SCALAR has ``d``, ``a``, ``b``, ``imm`` (signed) and ``color``, as :meth:`Assembler.scalar`.
    """
    fields = _unpack(Instruction, instruction)
    op, function = Op(fields.pop("op")), Function(fields.pop("function"))
    tail = fields.pop("tail")
    if op is not Op.SCALAR:
        return op, function, fields | _unpack(Tail, tail)
    fields |= {name: fields.pop(f"{name}_reg") for name in "dab"}
    fields |= {"imm": tail - (tail >> 31 << 32), "color": fields.pop("count")}
    return op, function, fields


def _unpack(layout: type[data.StructLayout], bits: int) -> dict[str, int]:
    fields = _fields(layout)
    return {name: bits >> at & (1 << width) - 1 for name, (at, width) in fields.items()}


@dataclass
class Assembler:
    """Collects the instructions of a program.

    Attributes
    ----------
    instructions : list of int
        Encoded instructions, 160 bits each.
    lines : list of str
        One line of text for each.
    comments : list of str
        What each is for.
    operations : list of str
        What each is part of, for people.
    fenced : list of bool
        Whether each waits for vector instructions before it.
    operation : str
        What the next instructions are part of.
    notes : dict of int to str
        What begins at an instruction, in words of the model.
    """

    instructions: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    fenced: list[bool] = field(default_factory=list)
    operation: str = ""
    notes: dict[int, str] = field(default_factory=dict)
    _labels: dict[str, int] = field(default_factory=dict)
    _branches: list[tuple[int, str]] = field(default_factory=list)
    _returns: set[int] = field(default_factory=set)

    def vector(self, op: Op, *, comment: str = "", **fields: Any) -> None:
        """Append a vector instruction.

        Parameters
        ----------
        op : :class:`.Op`
            Anything but SCALAR.
        **fields
            Fields of :class:`.Instruction` and :class:`.Tail`; 0 where not given.

        Raises
        ------
        AssemblerError
            If a value does not fit its field.
        """
        tail_names = _fields(Tail)
        tail = {name: value for name, value in fields.items() if name in tail_names}
        rest = {name: value for name, value in fields.items() if name not in tail_names}
        what = f"Instruction {len(self.instructions)} ({op.name})"
        word = _pack(Instruction, {"op": op, **rest, "tail": _pack(Tail, tail, what)}, what)
        self._append(word, op.name, fields, comment)

    def scalar(
        self,
        function: Function,
        *,
        d: int = 0,
        a: int = 0,
        b: int = 0,
        imm: int = 0,
        dynamic: int = 0,
        color: int = 0,
        control: bool = False,
        fence_pipe: bool = False,
        fence_receive: bool = False,
        fence_transmit: bool = False,
        comment: str = "",
    ) -> None:
        """Append a scalar instruction; ``imm`` is taken modulo 2**32.

        Raises
        ------
        AssemblerError
            If a value does not fit its field.
        """
        if not -(2**31) <= imm < 2**32:
            raise AssemblerError(
                f"Instruction {len(self.instructions)} ({function.name}): imm must have 32 bits, "
                f"not {imm!r}"
            )
        fields = {
            "d_reg": d,
            "a_reg": a,
            "b_reg": b,
            "dynamic": dynamic,
            "count": color,
            "control": control,
            "tail": imm % 2**32,
            "fence_pipe": fence_pipe,
            "fence_receive": fence_receive,
            "fence_transmit": fence_transmit,
        }
        what = f"Instruction {len(self.instructions)} ({function.name})"
        word = _pack(Instruction, {"op": Op.SCALAR, "function": function, **fields}, what)
        shown = {name: value for name, value in fields.items() if value}
        self._append(word, function.name, shown, comment)

    def label(self, name: str) -> None:
        """Name the next instruction."""
        if name in self._labels:
            raise AssemblerError(f"Label {name!r} must be placed once")
        self._labels[name] = len(self.instructions)

    def place(self, label: str) -> int:
        """Return the number of the instruction that a label names.

        Raises
        ------
        AssemblerError
            If the label is missing.
        """
        if label not in self._labels:
            raise AssemblerError(f"Label {label!r} must be placed")
        return self._labels[label]

    def note(self, text: str, operation: str = "") -> None:
        """Say what begins with the next instruction, and what operation it is part of."""
        at = len(self.instructions)
        self.operation = operation or self.operation
        self.notes[at] = "; ".join([self.notes[at], text] if at in self.notes else [text])

    @property
    def labels(self) -> dict[str, int]:
        """Instructions by label."""
        return dict(self._labels)

    def branch(self, a: int, label: str, *, comment: str = "", returns: bool = False) -> None:
        """Append a branch to a label, taken if register ``a`` is not 0.

        One that ``returns`` from instructions aside is no loop, though it goes back.
        """
        if returns:
            self._returns.add(len(self.instructions))
        self._branches.append((len(self.instructions), label))
        self.scalar(Function.BRANCH, a=a, comment=comment)

    def aside(self, label: str) -> range:
        """Return the instructions aside that begin at a label, none if there is no such label."""
        begin = self._labels.get(label)
        if begin is None:
            return range(0)
        return range(begin, min(index for index in self._returns if index >= begin) + 1)

    def joints(self) -> list[int]:
        """Return the first instructions of pieces that wait for what was before.

        While one of them waits, the operation before is still at work.
        """
        return [first for first, _, _ in self.pieces() if self.fenced[first]]

    def pieces(self) -> list[tuple[int, str, bool]]:
        """Return the pieces of the program: first instruction, operation, whether it is in a loop.

        Instructions of one operation that follow each other are a piece; a loop ends with a branch
        back to its label, and has no other one in it.
        """
        spans = [
            range(self._labels[label], index + 1)
            for index, label in self._branches
            if self._labels[label] <= index and index not in self._returns
        ]
        loops = [
            span
            for span in spans
            if not any(other.start >= span.start and other.stop < span.stop for other in spans)
        ]
        found: list[tuple[int, str, bool]] = []
        for index, name in enumerate(self.operations):
            piece = (name, any(index in loop for loop in loops))
            if not found or found[-1][1:] != piece:
                found.append((index, *piece))
        return found

    def encoded(self) -> list[int]:
        """Return the instructions, with the labels that branches go to.

        Raises
        ------
        AssemblerError
            If a label is missing.
        """
        tail, _ = _fields(Instruction)["tail"]
        done = list(self.instructions)
        for index, label in self._branches:
            done[index] |= self.place(label) << tail
        return done

    def words(self) -> list[int]:
        """Return the program as 32-bit words, low word first, as :meth:`encoded`."""
        return [
            instruction >> 32 * word & 0xFFFFFFFF
            for instruction in self.encoded()
            for word in range(INSTRUCTION_WORDS)
        ]

    def _append(self, word: int, name: str, fields: Mapping[str, Any], comment: str) -> None:
        self.instructions.append(word)
        self.operations.append(self.operation)
        self.fenced.append(bool(fields.get("fence_pipe") or fields.get("fence_receive")))
        shown = " ".join(
            f"{key}={value.name if isinstance(value, Type) else int(value)}"
            for key, value in fields.items()
        )
        self.lines.append(f"{name:<12} {shown}{f'  # {comment}' if comment else ''}")
        self.comments.append(comment)
