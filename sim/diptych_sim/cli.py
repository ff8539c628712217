# SPDX-License-Identifier: BSD-2-Clause
"""The ``diptych`` command."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from diptych_sim.command.options import Refused
from diptych_sim.command.signals import Terminated, die_of, ended_by_signals
from diptych_sim.engine.errors import ToolError
from diptych_sim.engine.lanes.distributed import stop_all
from diptych_sim.engine.processes import is_first, launch, processes
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.settings import SettingError, check_settings

__all__ = ["main"]


COMMANDS = (
    "bench",
    "collective",
    "compare",
    "evaluate",
    "fit",
    "gemm",
    "gemv",
    "generate",
    "layer",
    "program",
    "project",
    "quadrants",
    "report",
    "serve",
    "silicon",
    "sweep",
    "verilog",
)


class _ReaderGoneError(Exception):
    """Nobody reads what is printed; click would make exit status 1 of the error itself."""


@contextmanager
def _reader_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGoneError from None


class _Commands(click.Group):
    """Reads the code of the command that is asked for only."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        with _reader_gone():  # of --help
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)

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
    help="Threads of the mesh in each process (with --engine lanes).  [default: one for each 1,024 "
    "tiles, at most one for each processor]",
)
def cli(count: int | None, threads: int | None) -> None:
    """Language models on a simulated machine: systolic prefill, KV link, wafer-mesh decode."""
    check_settings()
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
        with ended_by_signals():
            status = _run()
            with _reader_gone():
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None:
                        stream.flush()
    except (_ReaderGoneError, BrokenPipeError):
        # With the reader goes what is still in the buffers.
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        status = 141
    except Terminated as ended:
        die_of(ended.number)
    except OSError as error:  # as a disk that is full
        status = _failed(error)
    sys.exit(status)


def _run() -> int:
    """Run the command, and return its exit status."""
    try:
        cli.main(standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            click.echo(error.format_message(), err=True)
        else:
            Refused(error.format_message()).show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (SettingError, ModelFileError) as error:
        Refused(str(error)).show()
        return 2
    except click.Abort:
        return 130
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        return _failed(error)
    return 0


def _failed(error: OSError) -> int:
    """Tell what a system call says, and return the exit status."""
    where = f"{error.filename}: " if error.filename else ""
    if processes() > 1:
        stop_all(f"{where}{error.strerror}")
    with suppress(OSError):
        click.echo(f"error: {where}{error.strerror}", err=True)
    return 1
