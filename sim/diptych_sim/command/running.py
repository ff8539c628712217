# SPDX-License-Identifier: BSD-2-Clause
"""How a command runs something, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from diptych_sim.account.generation import AccountError
from diptych_sim.command.options import Refused, Size, write_json
from diptych_sim.command.waves import Recording
from diptych_sim.engine.errors import BuildError, CheckpointError, SimulationError, ToolError
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.report.console import console
from diptych_sim.report.progress import ProgressLine
from diptych_sim.settings import SettingError

__all__ = ["Failed", "close_compared", "close_kernel", "running", "size_text"]


def size_text(size: Size) -> str:
    """Return a size as RxC."""
    return f"{size[0]}x{size[1]}"


class Failed(click.ClickException):
    """A step that failed: one line, exit status 1; the rest of the message is in a log."""

    def show(self, file: Any = None) -> None:
        first, *rest = [line.strip() for line in self.message.splitlines() if line.strip()] or [""]
        # A build's first line says only that it failed.
        text = f"{first} {rest[0]}" if rest and first.endswith(":") else first
        click.echo(f"error: {text}", err=True)


@contextmanager
def running(*refusals: type[Exception]) -> Iterator[ProgressLine]:
    """Show the steps of a run, and end it with one line if it fails.

    ``refusals`` and checkpoints of other runs are a user's mistakes (exit status 2); builds,
    simulations and accounts that fail
    are not (1).
    """
    progress = ProgressLine()
    try:
        yield progress
    except (SettingError, ModelFileError):
        raise  # the command tells it
    except (CheckpointError, *refusals) as error:
        raise Refused(str(error)) from None
    except (BuildError, ToolError, SimulationError, AccountError) as error:
        raise Failed(str(error)) from None
    finally:
        progress.stop()


def close_kernel(
    result: dict[str, Any],
    headline: str,
    json_file: str | None,
    recording: Recording | None = None,
    *,
    cycles_of: str = "tile",
    details: str = "",
) -> None:
    """Print what a run from operands to results gave, write its result, and exit 1 if it differs.

    ``headline`` says what was run and what it cost, ``cycles_of`` whose cycles have causes;
    ``details`` come last.
    """
    terminal = console(stderr=json_file == "-")
    equal = result["matches_golden"]
    verdict = f"{'equal to' if equal else 'DIFFERENT FROM'} NumPy"
    causes = ", ".join(
        f"{name} {count:,}" for name, count in result["cycles_by_cause"].items() if count
    )
    terminal.print(f"{headline}; {verdict}", soft_wrap=True)
    terminal.print(f"{cycles_of} cycles: {causes}", soft_wrap=True)
    if details:
        terminal.print(details, soft_wrap=True)
    if recording is not None:
        recording.finish(terminal)
    write_json(json_file, result)
    if not equal:
        click.echo("error: the result differs from NumPy's", err=True)
        sys.exit(1)


def close_compared(
    terminal: Console,
    result: dict[str, Any],
    difference: str | None,
    equal: str,
    json_file: str | None,
) -> None:
    """Write a result that was compared with the golden model, and exit 1 if there is a difference.

    ``equal`` is what is printed if there is none.
    """
    if difference is None:
        terminal.print(equal)
    write_json(json_file, result)
    if difference is not None:
        click.echo(f"error: {difference}", err=True)
        sys.exit(1)
