# SPDX-License-Identifier: BSD-2-Clause
"""Stops a mesh in a simulator that hangs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, NoReturn

from .events import report_event
from .hang import PATIENCE, hang_message
from .mesh_counters import MeshCounters
from .triggers import ClockCycles, start_soon

__all__ = ["MeshHangs", "Watchdog", "tile_bodies", "tile_body"]


class MeshHangs(AssertionError):  # noqa: N818 - an assertion of the testbench
    """A mesh does not go on."""


def tile_body(tile: Any) -> Any:
    """Return the handle of a tile's inside, whether tiles share their code or not."""
    try:
        return tile.shared_tile.body
    except AttributeError:
        return tile


def tile_bodies(mesh: Any, rows: int, columns: int) -> dict[tuple[int, int], Any]:
    """Return the handles of all tiles by row and column."""
    return {(r, c): tile_body(mesh[f"tile_{r}_{c}"]) for r in range(rows) for c in range(columns)}


class Watchdog:
    """Looks at the progress of all tiles every :data:`.PATIENCE` cycles.

    Parameters
    ----------
    clk : handle
        The clock.
    tiles : mapping
        Handles of tiles by place.
    counters : MeshCounters
        Their counters.
    lines, colors
        As of :func:`.hang_message`.
    """

    def __init__(
        self,
        clk: Any,
        tiles: Mapping[tuple[int, int], Any],
        counters: MeshCounters,
        *,
        lines: list[str],
        colors: Mapping[int, str],
    ) -> None:
        self._clk, self._tiles, self._counters = clk, tiles, counters
        self._lines, self._colors = lines, colors

    def start(self, limit: int | None = None) -> Any:
        """Watch from now on, and return the task.

        After ``limit`` cycles a mesh that makes progress is stopped, too: its program may loop. There is
        none where tokens have their own.
        """
        return start_soon(self.watch(limit))

    async def watch(self, limit: int | None) -> None:
        """Watch, and end only by :meth:`stop`; as of :meth:`start`."""
        before = self._counters.progress()
        for _ in count() if limit is None else range(0, limit, PATIENCE):
            await ClockCycles(self._clk, PATIENCE)
            now = self._counters.progress()
            if now == before and self._counters.busy():
                self.stop(f"no tile made progress in {PATIENCE} cycles")
            before = now
        self.stop(f"it has not ended after {limit} cycles")

    def stop(self, reason: str) -> NoReturn:
        """Report where the mesh hangs, and raise :class:`MeshHangs`."""
        message = hang_message(self._tiles, reason, lines=self._lines, colors=self._colors)
        report_event(kind="hang", message=message)
        raise MeshHangs(message)
