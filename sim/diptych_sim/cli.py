# SPDX-License-Identifier: BSD-2-Clause
"""The ``diptych`` command."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from diptych_sim.command.options import Refused
from diptych_sim.engine.errors import ToolError
from diptych_sim.engine.lanes.distributed import stop_all
from diptych_sim.engine.processes import is_first, launch, processes

__all__ = ["main"]


COMMANDS = (
    "bench",
    "collective",
    "compare",
    "evaluate",
    "gemm",
    "gemv",
    "generate",
    "program",
    "report",
    "verilog",
)


class _Commands(click.Group):
    """Reads the code of the command that is asked for only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"diptych_sim.command.{cmd_name}"), cmd_name)


@click.group(cls=_Commands)
@click.version_option(package_name="diptych")
@click.option(
    "--processes",
    "count",
    type=click.IntRange(1, 4096),
    help="Cut the mesh among so many MPI processes (with --engine lanes).",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Threads of the mesh in each process (with --engine lanes).",
)
def cli(count: int | None, threads: int | None) -> None:
    """Language models on a simulated machine: systolic prefill, KV link, wafer-mesh decode."""
    if threads is not None:
        os.environ["DIPTYCH_THREADS"] = str(threads)
    if count is not None and count > 1 and processes() == 1:
        try:
            sys.exit(launch(count, [sys.executable, *sys.argv]))
        except ToolError as error:
            raise Refused(str(error)) from None


def main() -> None:
    """Run the command; mistakes are told in one line, with exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # text that a terminal cannot show
    if not is_first():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        cli.main(standalone_mode=False)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            click.echo(error.format_message(), err=True)
        else:
            Refused(error.format_message()).show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone; with it goes what is still in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # as a disk that is full
        where = f"{error.filename}: " if error.filename else ""
        if processes() > 1:
            stop_all(f"{where}{error.strerror}")
        click.echo(f"error: {where}{error.strerror}", err=True)
        sys.exit(1)
