# SPDX-License-Identifier: BSD-2-Clause
"""Operations of a mesh's host, whichever engine runs the mesh."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .jobs import Counters, MeshJob, Words

__all__ = ["SETTLE", "MeshHost"]

SETTLE = 100
"""Cycles after which what was sent to a tile has arrived, besides a cycle for each column."""


class MeshHost(ABC):
    """Loads a mesh from its west edge, waits for it, and reads what it sends back.

    :mod:`.workloads` is written in these operations. In a simulator they wait for triggers; on
    lanes they run the mesh, and never wait.

    Attributes
    ----------
    job : MeshJob
        What runs.
    settle_cycles : int
        Cycles after which what was sent has arrived.
    """

    def __init__(self, job: MeshJob) -> None:
        self.job = job
        self.settle_cycles = SETTLE + job.mesh[1]

    @abstractmethod
    def cycle(self) -> int:
        """Return the cycles so far, with those of reset."""

    @abstractmethod
    def counters(self) -> Counters:
        """Return the counters of every tile, row by row."""

    @abstractmethod
    def read_sram(self, tiles: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of the SRAM of some tiles, by number, as they are now.

        Parts are pairs of an address and a size, multiples of 8; those of a tile are joined. The
        simulator reads them, not the host: the machine does not notice.
        """

    @abstractmethod
    def mark_start(self) -> None:
        """Let waveforms begin here."""

    async def send(self, words: Words) -> None:
        """Send words into each row, and return when they are in the mesh."""
        self.feed(words)
        await self.finish_sending()

    @abstractmethod
    def feed(self, words: Words) -> None:
        """Send words into each row from now on; :meth:`finish_sending` waits for the end."""

    @abstractmethod
    async def finish_sending(self) -> None:
        """Return when what was fed is in the mesh."""

    @abstractmethod
    async def settle(self, more: int = 0) -> None:
        """Let what was sent arrive, and ``more`` cycles pass."""

    @abstractmethod
    async def until_busy(self) -> None:
        """Return in the first cycle in which a tile is busy.

        The mesh hangs if none is within :attr:`settle_cycles`.
        """

    @abstractmethod
    async def until_idle(self, limit: int) -> None:
        """Return in the first cycle in which no tile is busy.

        The mesh hangs if no tile has issued an instruction or taken a step for
        :data:`.PATIENCE` cycles, or if ``limit`` cycles have passed.
        """

    @abstractmethod
    async def until_rest(self, more: int) -> None:
        """Let a mesh that has ended come to rest.

        It hangs if a tile is busy after :attr:`settle_cycles` and ``more``.
        """

    @abstractmethod
    async def until_written(
        self, waited: list[int], written: list[int], limit: int
    ) -> tuple[list[int], Counters, Counters, int]:
        """Return when each tile has written to its SRAM as often as ``written`` says.

        ``waited`` are instructions of each tile that wait for the others. The mesh hangs if it
        takes more than ``limit`` cycles.

        Returns
        -------
        starts : list of int
            Cycle in which each tile issued the last of its ``waited``.
        before, after : list of dict
            Counters in the first of these cycles, and in the last cycle.
        end : int
            The last cycle.
        """

    @abstractmethod
    async def until_token(self, index: int, limit: int) -> tuple[int, int]:
        """Return the cycle in which the next word leaves row 0, and the word.

        The mesh hangs if none does within ``limit`` cycles.
        """

    @abstractmethod
    def collect(self) -> None:
        """Collect words that leave the rows from now on; earlier ones are dropped."""

    @abstractmethod
    async def read(self, words: int) -> Words:
        """Return so many words of each row, of those collected; collecting ends.

        The mesh hangs if none comes for :data:`.PATIENCE` cycles.
        """
