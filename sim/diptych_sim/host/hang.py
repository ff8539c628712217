# SPDX-License-Identifier: BSD-2-Clause
"""Describes a mesh that hangs: which tile waits for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.mesh.waits import Wait

__all__ = ["PATIENCE", "STILL_BUSY", "hang_message"]

PATIENCE = 2000
"""Cycles without progress after which a mesh hangs."""
STILL_BUSY = "it goes on behind the last token"
"""Reason of a mesh that has ended, but does not come to rest."""
_WORDS = {
    Wait.CREDIT: "waits for a credit of color {}",
    Wait.WAVELET: "waits for a wavelet of color {}",
    Wait.RECEIVE: "waits for a RECEIVE of color {}",
    Wait.PIPE: "waits for its vector pipe",
}


def hang_message(
    tiles: Mapping[tuple[int, int], Any],
    reason: str,
    *,
    lines: Sequence[str],
    colors: Mapping[int, str],
) -> str:
    """Return where a mesh hangs, in one line.

    It reads registers only (:data:`.WATCHED`), so that it works with any engine that gives
    registers by name.

    Parameters
    ----------
    tiles : mapping
        Handles of tiles by place.
    reason : str
        Why it is taken to hang.
    lines : sequence of str
        The program's listing, a line for each instruction.
    colors : mapping of int to str
        Names of colors.
    """
    waits = {place: Wait(int(t.core.watch_wait.value)) for place, t in tiles.items()}
    # A tile that waits for something explains more than one that has nothing to do.
    order = (Wait.WAVELET, Wait.RECEIVE, Wait.CREDIT, Wait.PIPE, Wait.NOTHING, Wait.TASK)
    place = min(waits, key=lambda place: (order.index(waits[place]), place))
    counts = Counter(wait.name.lower() for wait in waits.values())
    others = ", ".join(f"{n} wait for {what}" for what, n in sorted(counts.items()))
    core = tiles[place].core
    color = int(core.watch_color.value)
    name = f"{color} ({colors[color]})" if color in colors else str(color)
    where = f"tile {place} "
    task, pc = int(core.watch_task.value), int(core.watch_pc.value)
    if int(core.watch_running.value):
        line = lines[pc].split("  #")[0] if pc < len(lines) else "no instruction"
        where += f"in task {task} at instruction {pc} ({' '.join(line.split())}) "
    else:
        where += f"after task {task} "
    where += _WORDS.get(waits[place], "goes on without end").format(name)
    return f"mesh hangs, {reason}: {where}; of all tiles {others}"
