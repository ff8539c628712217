# SPDX-License-Identifier: BSD-2-Clause
"""Terminals, and files instead of them, that commands print to."""

from __future__ import annotations

import shutil
from typing import NoReturn

from rich.console import Console

__all__ = ["console"]

NARROWEST, WIDEST = 80, 500
"""Columns: fewer would cost tables their figures, so that longer lines are the terminal's to wrap."""


class _PlainConsole(Console):
    """Text as it is; without a reader an error, where rich would end the process with status 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return the standard output, or the standard error, for text without markup."""
    # Not rich's way, which takes any COLUMNS and LINES as they are: 0 columns show nothing.
    width, height = shutil.get_terminal_size((NARROWEST, 25))
    return _PlainConsole(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=min(max(width, NARROWEST), WIDEST),
        height=max(height, 25),
    )
