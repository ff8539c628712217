# SPDX-License-Identifier: BSD-2-Clause
"""Builds programs of the prefill panel (:mod:`diptych.systolic.isa`): commands and semaphores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from amaranth.hdl import Shape
from amaranth.lib import data

from diptych.systolic.isa import (
    COMMAND_WORDS,
    ESCAPE,
    FIELDS,
    LOAD,
    MATRIX,
    SEMAPHORES,
    SETS,
    STORE,
    VECTOR,
    Packed,
    Queue,
)

__all__ = ["CommandError", "CommandList", "Label", "PrefillProgram", "field_of", "pack_fields"]

_AHEAD = 50
"""A semaphore counts to 63, and 8 commands may stand in the queue that waits for it."""
_LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}


class CommandError(ValueError):
    """A command cannot be encoded."""


_PACKED = Packed()
_known: dict[object, tuple[Any, dict[str, tuple[int, int]]]] = {}


def _fields(layout: Any) -> dict[str, tuple[int, int]]:
    # To hash a layout takes longer than all the rest; those of one class of the ISA are equal.
    key = id(layout) if type(layout) is data.StructLayout else type(layout)
    if key not in _known:
        fields = {str(name): (f.offset, Shape.cast(f.shape).width) for name, f in layout}
        _known[key] = layout, fields
    return _known[key][1]


def pack_fields(layout: data.StructLayout, values: Mapping[str, Any], what: str) -> int:
    """Return the bits of a structure; fields that are not given are 0.

    Raises
    ------
    CommandError
        If a value does not fit its field.
    """
    fields = _fields(layout)  # pyright: ignore[reportArgumentType]
    bits = 0
    for name, value in values.items():
        offset, width = fields[name]
        number = int(getattr(value, "value", value))
        if number not in range(2**width):
            raise CommandError(f"{what}: {name} must be in range({2**width}), not {number!r}")
        bits |= number << offset
    return bits


def field_of(layout: data.StructLayout, bits: int) -> dict[str, int]:
    """Return the fields of a structure."""
    fields = _fields(layout)  # pyright: ignore[reportArgumentType]
    return {name: bits >> offset & (1 << width) - 1 for name, (offset, width) in fields.items()}


class Label(NamedTuple):
    """The part of a model that a command belongs to: a layer (None outside of layers), an operation."""

    layer: int | None
    operation: str


NO_LABEL = Label(None, "")


def _halves(value: int) -> list[int]:
    """Return a field as half-words: itself if its sign extends it, else both behind an escape."""
    if value < ESCAPE or value > 2**32 - ESCAPE:
        return [value % 2**16]
    return [ESCAPE, value % 2**16, value >> 16]


@dataclass
class _Command:
    queue: Queue
    op: int
    fields: dict[str, Any]
    set: int = 0
    wait: int = 0
    signal: int = 0
    label: Label = NO_LABEL


@dataclass
class CommandList:
    """Commands in program order, and the semaphores that keep their order where it matters.

    A semaphore stands for a pair of queues. A command that must come after another one of
    another queue waits for the pair's semaphore, unless an earlier command of its queue has
    already waited for that command or a later one.

    Attributes
    ----------
    label : Label
        What the next commands are part of.
    """

    commands: list[_Command] = field(default_factory=list)
    label: Label = NO_LABEL
    _waited: dict[tuple[Queue, Queue], int] = field(default_factory=dict)

    def add(
        self,
        queue: Queue,
        op: Enum | int,
        *,
        after: Iterable[int | None] = (),
        remember: int = 0,
        **fields: Any,
    ) -> int:
        """Append a command that starts when the commands ``after`` are done; return its number.

        Its fields are compared with those of the last command of its queue with the same
        ``remember``, in range(:data:`.SETS`): fewer differences, fewer bytes.
        """
        assert remember in range(SETS)
        code: Any = getattr(op, "value", op)
        command = _Command(queue, int(code), fields, remember, label=self.label)
        latest: dict[tuple[Queue, Queue], int] = {}
        for number in after:
            if number is None or self.commands[number].queue is queue:
                continue
            pair = (self.commands[number].queue, queue)
            latest[pair] = max(number, latest.get(pair, -1))
        for pair, number in latest.items():
            if number <= self._waited.get(pair, -1):
                continue
            self._waited[pair] = number
            bit = 1 << (pair[0].value * 4 + pair[1].value)
            command.wait |= bit
            self.commands[number].signal |= bit
        self.commands.append(command)
        return len(self.commands) - 1

    def words(self) -> list[int]:
        """Return the program as 32-bit words.

        Raises
        ------
        CommandError
            If a value does not fit its field.
        """
        assert SEMAPHORES >= 16
        self._check_semaphores()
        return [word for command, _ in self._encoded() for word in command]

    def encoded_words(self) -> list[int]:
        """Return how many words each command takes in HBM."""
        return [len(command) for command, _ in self._encoded()]

    def encoded_sizes(self) -> list[tuple[int, int]]:
        """Return the words of each command in HBM, and the cycles that they take to unpack."""
        return [(len(command), cycles) for command, cycles in self._encoded()]

    def _encoded(self) -> Iterator[tuple[list[int], int]]:
        """Yield the words of each command, and the cycles that they take."""
        remembered: dict[tuple[Queue, int], list[int]] = {}
        for index, command in enumerate(self.commands):
            what = f"Command {index} ({command.queue.name})"
            bits = pack_fields(_LAYOUTS[command.queue], command.fields, what)
            fields = [bits >> 32 * n & 0xFFFFFFFF for n in range(1, COMMAND_WORDS - 2)]
            before = remembered.get((command.queue, command.set), [0] * FIELDS)
            remembered[command.queue, command.set] = fields
            changed = [n for n in range(FIELDS) if fields[n] != before[n]]
            semaphores = command.wait | command.signal << 16
            packed = {
                "queue": command.queue,
                "op": command.op,
                "end": index == len(self.commands) - 1,
                "set": command.set,
                "fields": sum(1 << n for n in changed),
                "semaphores": semaphores != 0,
            }
            words = [pack_fields(_PACKED, packed, what)]
            words += [semaphores] if semaphores else []
            wide = [fields[n] for n in changed]
            halves = [half for value in wide for half in _halves(value)]
            short = [
                low | high << 16 for low, high in zip(halves[::2], [*halves[1::2], 0], strict=False)
            ]
            if len(short) < len(wide):
                words[0] |= pack_fields(_PACKED, {"short": 1}, what)
                yield words + short, len(words) + len(halves)
            else:
                yield words + wide, len(words) + len(wide)

    def _check_semaphores(self) -> None:
        """Raise CommandError where signals that are not taken yet could exceed a semaphore."""
        signaled: Counter[int] = Counter()
        for index, command in enumerate(self.commands):
            for bit in range(SEMAPHORES):
                signaled[bit] += (command.signal >> bit & 1) - (command.wait >> bit & 1)
                if signaled[bit] > _AHEAD:
                    raise CommandError(
                        f"Command {index}: semaphore {bit} must be ahead by at most {_AHEAD}, "
                        f"not {signaled[bit]!r}"
                    )


@dataclass(frozen=True)
class PrefillProgram:
    """Contents of the HBM, and where the commands are: the value of a :class:`~.isa.Program`."""

    hbm: bytes
    start: int
    commands: CommandList
    weight_bytes: int
    """HBM bytes that any prefill of the prompt must read: weights and scale words, and of the tables
    of embedding and RoPE the rows of its tokens and positions."""
