# SPDX-License-Identifier: BSD-2-Clause
"""Commands of a prefill, each with what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from diptych.systolic.isa import VECTOR, Flags, Modes, Queue, StoreOp, Target, VectorOp
from diptych_sim.compiler.array.commands import CommandList, Label, pack_fields
from diptych_sim.compiler.array.hazards import Hazards, Span
from diptych_sim.compiler.array.hbm_layout import HbmImage
from diptych_sim.compiler.prefill.memories import Memories
from diptych_sim.compiler.prefill.prompts import Block

__all__ = ["PrefillCommands", "Remember"]


class Remember(IntEnum):
    """Which commands of a queue are alike, so that only differences are stored."""

    PRODUCT = 0
    SCORES = 1
    CONTEXT = 2
    NORM = 3


class PrefillCommands:
    """Appends commands that wait for exactly what their memories demand."""

    def __init__(
        self, image: HbmImage, memories: Memories, *, rows: int, columns: int, square_shift: int
    ) -> None:
        self.image = image
        self.memories = memories
        self.rows, self.columns = rows, columns
        self.square_shift = square_shift
        self.list = CommandList()
        self._hazards = Hazards()
        self._half = 0
        self._used = [0, 0]

    def label(self, layer: int | None, operation: str) -> None:
        """Say what the next commands are part of."""
        self.list.label = Label(layer, operation)

    def add(
        self,
        queue: Queue,
        op: Any,
        *,
        reads: Iterable[Span] = (),
        writes: Iterable[Span] = (),
        remember: Remember = Remember.PRODUCT,
        **fields: Any,
    ) -> None:
        """Append a command."""
        reads, writes = tuple(reads), tuple(writes)
        after = self._hazards.before(reads, writes)
        number = self.list.add(queue, op, after=after, remember=remember, **fields)
        self._hazards.add(number, reads, writes)

    def end_rows(self) -> None:
        """Say that what comes next has other rows: their states wait for the last vector command."""
        numbers = range(len(self.list.commands) - 1, -1, -1)
        last = next(n for n in numbers if self.list.commands[n].queue is Queue.VECTOR)
        self._hazards.add(last, [Span("states", 0, self.memories.states)], ())

    def take_sums(self, entries: int, half: int | None = None) -> int:
        """Return the first of ``entries`` accumulator entries, in a half: else the next one.

        More than a half has take both.
        """
        size = self.memories.half
        assert entries <= 2 * size
        if entries > size:
            self._used = [size, size]
            return 0
        self._half = self._half ^ 1 if half is None else half
        if self._used[self._half] + entries > size:
            self._used[self._half] = 0
        first = self._half * size + self._used[self._half]
        self._used[self._half] += entries
        return first

    def load(self, target: Target, part: str, address: int, *, fills: Span, **fields: Any) -> None:
        """Load a part of the HBM image."""
        defaults: dict[str, Any] = {
            "hbm": self.image.at[part],
            "bytes": self.image.size[part],
            "rows": 1,
        }
        self.add(Queue.LOAD, target, writes=[fills], target=address, **defaults | fields)

    def matrix(
        self,
        *,
        k: int,
        n: int,
        block: Block,
        sums: int,
        reads: Iterable[Span],
        modes: dict[str, Any] | None = None,
        x_other: int = 0,
        w_other: int = 0,
        **fields: Any,
    ) -> None:
        """Multiply the rows of a block: ``n`` column tiles into ``sums``, one after another.

        ``x_other`` and ``w_other`` are distances of the other planes, in bytes.
        """
        given = {"end_row": self.rows} | (modes or {})
        line = self.memories.line
        assert x_other % line == w_other % line == 0
        self.add(
            Queue.MATRIX,
            0,
            reads=reads,
            writes=[Span("sums", sums, sums + n * block.rows)],
            sums=sums,
            sums_n=block.rows,
            tiles=k | n << 16,
            modes=pack_fields(Modes(), given, "Modes"),
            rows=block.rows | x_other // line << 16,
            first=block.position | w_other // line << 16,
            **fields,
        )

    def vector(
        self,
        op: VectorOp,
        *,
        block: Block,
        tiles: int = 1,
        state: int | None = None,
        flags: dict[str, Any] | None = None,
        reads: Iterable[Span] = (),
        writes: Iterable[Span] = (),
        sums: int | None = None,
        epsilon: int | None = None,
        **fields: Any,
    ) -> None:
        """Run an op on the rows of a block; ``sums`` as :meth:`matrix` left them."""
        given = {"end_lane": self.columns, "square_shift": self.square_shift}
        bits = pack_fields(Flags(), given | (flags or {}), "Flags")
        state = block.first if state is None else state
        if sums is not None:
            reads = [*reads, Span("sums", sums, sums + tiles * block.rows)]
            fields |= {"sums": sums, "sums_n": block.rows}
        if epsilon is not None:
            fields["sums"] = epsilon
        assert fields.keys() <= {name for name, _ in VECTOR} | {"remember"}
        self.add(
            Queue.VECTOR,
            op,
            reads=reads,
            writes=writes,
            extent=block.rows | tiles << 16,
            flags=bits,
            first=block.position | state << 16,
            **fields,
        )

    def store(self, op: StoreOp, *, reads: Iterable[Span], **fields: Any) -> None:
        """Hand something off to the link."""
        self.add(Queue.STORE, op, reads=reads, **fields)
