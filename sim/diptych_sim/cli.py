# SPDX-License-Identifier: BSD-2-Clause
"""The ``diptych`` command."""

from __future__ import annotations

import io
import os
import sys

import click

from diptych_sim.command.bench import bench
from diptych_sim.command.collective import collective
from diptych_sim.command.compare import compare
from diptych_sim.command.evaluate import evaluate
from diptych_sim.command.gemm import gemm
from diptych_sim.command.gemv import gemv
from diptych_sim.command.generate import generate
from diptych_sim.command.options import Refused
from diptych_sim.command.program import program
from diptych_sim.command.report import report
from diptych_sim.command.verilog import verilog
from diptych_sim.engine.errors import ToolError
from diptych_sim.engine.lanes.machines import stop_all
from diptych_sim.engine.processes import is_first, launch, processes

__all__ = ["main"]


@click.group()
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


for _command in (
    generate,
    report,
    compare,
    program,
    gemm,
    gemv,
    collective,
    evaluate,
    verilog,
    bench,
):
    cli.add_command(_command)


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
