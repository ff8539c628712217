# SPDX-License-Identifier: BSD-2-Clause
"""Tells what a long command is doing, and about how long it will take."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rich.status import Status

from diptych_sim.report.console import console

__all__ = ["ProgressLine"]

QUIET = 2.0
"""Seconds after which a phase tells how far it is, where lines stay; then after twice as many."""
_COUNT = re.compile(r", (\d+) of (\d+)")


class ProgressLine:
    """Shows steps on standard error: one live line on a terminal, else lines of each phase.

    What follows a comma in a step is how far it is; ``3 of 12`` also tells how long the rest takes.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console(stderr=True)
        self._clock = clock
        self._live: Status | None = None
        self._phase = ""
        self._began = self._told = 0.0
        self._first: tuple[float, int] | None = None

    def __call__(self, step: str) -> None:
        """Show a step."""
        now = self._clock()
        phase = step.split(",")[0]
        new = phase != self._phase
        if new:
            self._phase, self._began, self._told, self._first = phase, now, QUIET, None
        text = f"{step}{self._left(step, now)}"
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            if self._live is None:
                self._live = self._console.status(text)
                self._live.start()
            self._live.update(text)
        elif new:
            self._print(phase if _COUNT.search(step) else step)
        elif now - self._began >= self._told:
            self._told = 2 * (now - self._began)
            self._print(text)

    def _left(self, step: str, now: float) -> str:
        """Return about how long the rest of a step takes, as far as it has counts."""
        match = _COUNT.search(step)
        if match is None:
            return ""
        done, total = int(match[1]), int(match[2])
        if self._first is None:
            self._first = (now, done)
        start, before = self._first
        if done <= before or now <= start:
            return ""
        seconds = (now - start) / (done - before) * (total - done)
        unit = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
        return f", about {unit} left"

    def _print(self, text: str) -> None:
        self._console.print(f"{text} ...", soft_wrap=True)

    def stop(self) -> None:
        """Clear the line."""
        if self._live is not None:
            self._live.stop()
        self._live = None
