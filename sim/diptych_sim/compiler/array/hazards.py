# SPDX-License-Identifier: BSD-2-Clause
"""Which earlier commands a command must come after, from what they read and write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Hazards", "Span"]


class Span(NamedTuple):
    """Entries ``start`` to ``end - 1`` of a memory, whatever the memory counts in."""

    memory: str
    start: int
    end: int


class _Access(NamedTuple):
    start: int
    end: int
    command: int
    writes: bool


@dataclass
class Hazards:
    """Accesses of commands to memories, in program order."""

    _accesses: dict[str, list[_Access]] = field(default_factory=dict)

    def before(self, reads: Iterable[Span], writes: Iterable[Span]) -> list[int]:
        """Return commands that must be done first: reads after writes, writes after anything."""
        found = set()
        for spans, writing in ((reads, False), (writes, True)):
            for span in spans:
                for access in self._accesses.get(span.memory, ()):
                    overlaps = access.start < span.end and span.start < access.end
                    if overlaps and (writing or access.writes):
                        found.add(access.command)
        return sorted(found)

    def add(self, command: int, reads: Iterable[Span], writes: Iterable[Span]) -> None:
        """Remember a command.

        Accesses inside a span that is written are forgotten: who must come after them must come
        after this command.
        """
        for span in reads:
            known = self._accesses.setdefault(span.memory, [])
            known.append(_Access(span.start, span.end, command, False))
        for span in writes:
            known = self._accesses.get(span.memory, [])
            remaining = [a for a in known if a.start < span.start or a.end > span.end]
            remaining.append(_Access(span.start, span.end, command, True))
            self._accesses[span.memory] = remaining
