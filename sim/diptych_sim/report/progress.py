# SPDX-License-Identifier: BSD-2-Clause
"""Tells what a long command is doing."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status

__all__ = ["ProgressLine"]


class ProgressLine:
    """Shows steps on standard error: one live line on a terminal, else a line for each phase.

    What follows a comma in a step is how far it is.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live: Status | None = None
        self._phase = ""

    def __call__(self, step: str) -> None:
        """Show a step."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = self._console.status(step)
                self._live.start()
            self._live.update(step)
            return
        phase = step.split(",")[0]
        if phase != self._phase:
            self._console.print(f"{phase} ...", markup=False, soft_wrap=True)
        self._phase = phase

    def stop(self) -> None:
        """Clear the line."""
        if self._live is not None:
            self._live.stop()
        self._live = None
