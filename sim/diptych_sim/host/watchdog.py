# SPDX-License-Identifier: BSD-2-Clause
"""Stops a mesh that hangs, and says which tile waits for what."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from diptych.mesh.waits import Wait
from diptych_sim.host.events import report_event

__all__ = ["PATIENCE", "HangError", "Watchdog", "tile_bodies", "watch_mesh"]

PATIENCE = 2000
"""Cycles without progress after which a mesh hangs."""
_WORDS = {
    Wait.CREDIT: "waits for a credit of color {}",
    Wait.WAVELET: "waits for a wavelet of color {}",
    Wait.RECEIVE: "waits for a RECEIVE of color {}",
    Wait.PIPE: "waits for its vector pipe",
}


class HangError(AssertionError):
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
    """Looks at the progress of all tiles now and then.

    It reads registers only (:data:`.WATCHED`, and the counters of instructions and steps), so
    that it works with any engine that gives registers by name.

    Parameters
    ----------
    dut : handle
        The design, with a ``clk``.
    tiles : dict
        Handles of tiles by place.
    lines : list of str
        The program's listing, a line for each instruction.
    color_names : dict
        Names of colors by number.
    patience : int
        Cycles without progress that are a hang.
    limit : int
        Cycles that :meth:`run` lets pass in all: a program may also go round in circles.
    """

    def __init__(
        self,
        dut: Any,
        tiles: dict[tuple[int, int], Any],
        *,
        lines: list[str],
        color_names: dict[int, str],
        patience: int = PATIENCE,
        limit: int = 10_000_000,
    ) -> None:
        self._dut, self.tiles = dut, tiles
        self._lines, self._names, self._patience = lines, color_names, patience
        self._limit = limit
        self._busy = [tile.core.watch_busy for tile in tiles.values()]
        cores = [tile.core for tile in tiles.values()]
        self._signs = [
            sign for core in cores for sign in (core.count_instructions, core.count_computing)
        ]

    def _progress(self) -> list[int]:
        return [int(sign.value) for sign in self._signs]

    async def run(self) -> None:
        """Watch until cancelled.

        Raises
        ------
        HangError
            If a tile is busy, but none has issued an instruction or taken a step for the whole
            patience, or the limit has passed.
        """
        before = self._progress()
        for _ in range(0, self._limit, self._patience):
            await ClockCycles(self._dut.clk, self._patience)
            now = self._progress()
            if now == before and any(busy.value for busy in self._busy):
                self.stop(f"no tile made progress in {self._patience} cycles")
            before = now
        self.stop(f"it has not ended after {self._limit} cycles")

    def stop(self, why: str) -> None:
        """Report where the mesh hangs, and raise :class:`HangError`."""
        message = self.message(why)
        report_event(kind="hang", message=message)
        raise HangError(message)

    def message(self, why: str) -> str:
        """Return where the mesh hangs."""
        waits = {place: Wait(int(t.core.watch_wait.value)) for place, t in self.tiles.items()}
        # One that waits for something explains more than one that has nothing to do.
        order = (Wait.WAVELET, Wait.RECEIVE, Wait.CREDIT, Wait.PIPE, Wait.NOTHING, Wait.TASK)
        place = min(waits, key=lambda place: (order.index(waits[place]), place))
        counts = Counter(wait.name.lower() for wait in waits.values())
        others = ", ".join(f"{n} wait for {what}" for what, n in sorted(counts.items()))
        return f"mesh hangs, {why}: {self._describe(place, waits[place])}; of all tiles {others}"

    def _describe(self, place: tuple[int, int], wait: Wait) -> str:
        core = self.tiles[place].core
        color = int(core.watch_color.value)
        name = f"{color} ({self._names[color]})" if color in self._names else str(color)
        where = f"tile {place} "
        task, pc = int(core.watch_task.value), int(core.watch_pc.value)
        if int(core.watch_running.value):
            line = self._lines[pc].split("  #")[0] if pc < len(self._lines) else "no instruction"
            where += f"in task {task} at instruction {pc} ({' '.join(line.split())}) "
        else:
            where += f"after task {task} "
        return where + _WORDS.get(wait, "goes on without end").format(name)


def watch_mesh(dut: Any, mesh: Any, job: dict[str, Any]) -> Watchdog:
    """Return a watchdog of a mesh, which is out of reset, and let it run until the test ends.

    ``job`` has ``mesh`` (rows, columns), ``lines`` (of the program), ``colors`` (names by number).
    """
    tiles = tile_bodies(mesh, *job["mesh"])
    names = {int(color): name for color, name in job["colors"].items()}
    watchdog = Watchdog(dut, tiles, lines=job["lines"], color_names=names)
    cocotb.start_soon(watchdog.run())
    return watchdog
