# SPDX-License-Identifier: BSD-2-Clause
"""Processes that run a machine together: those that ``mpirun`` starts."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import ToolError

__all__ = ["end_with_parent", "is_first", "launch", "processes", "rank"]

_PDEATHSIG = 1
"""Option of Linux's prctl."""
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_ABORT = re.compile(
    r"-{5}|\s*$|\[(proxy|mpiexec)|Abort\(|prterun|mpirun|MPI_ABORT|with errorcode|NOTE: invoking"
    r"|You may or may not|exactly when"
)
_BANNER = re.compile("={60}|-{60}")
"""How MPI begins to tell, in many lines, that a process has died."""


def _number(names: tuple[str, ...], default: int) -> int:
    found = [os.environ[name] for name in names if os.environ.get(name, "").isdecimal()]
    return int(found[0]) if found else default


def processes() -> int:
    """Return how many processes ``mpirun`` has started together with this one; 1 without it."""
    return _number(_SIZES, 1)


def rank() -> int:
    """Return the number of this process among them."""
    return _number(_RANKS, 0) if processes() > 1 else 0


def is_first() -> bool:
    """Return whether this is the process that tells what has happened."""
    return rank() == 0


def end_with_parent(number: int) -> None:
    """Let this process get a signal when the one that started it dies."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, number)


def _pass_on(lines: Iterable[str]) -> None:
    """Print what the processes say, up to what MPI says of their end."""
    blank: str | None = ""
    for line in lines:
        if _BANNER.match(line):
            blank = None
        if blank is None:
            continue
        if line.isspace():
            blank += line
        else:
            print(blank + line, end="", flush=True)
            blank = ""
    print(blank or "", end="", flush=True)


def launch(count: int, command: Sequence[str]) -> int:
    """Run a command in several processes; return its exit status.

    When a process dies the others are stopped, a line says so, and the status is 1.

    Raises
    ------
    ToolError
        If there is no ``mpirun``.
    """
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.is_file() else shutil.which("mpirun")
    if mpirun is None:
        raise ToolError("mpirun not found: pip install diptych[mpi]")
    told, gone = False, threading.Event()
    whole = [mpirun, "-n", str(count), *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        whole,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        # The only other thread waits for signals.
        preexec_fn=lambda: end_with_parent(signal.SIGTERM),  # noqa: PLW1509
    ) as running:

        def read() -> None:
            try:
                _pass_on(running.stdout or ())
            except BrokenPipeError:
                gone.set()
                running.terminate()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for line in running.stderr or ():
                if not _ABORT.match(line) and not gone.is_set():
                    told = True
                    print(line, end="", file=sys.stderr, flush=True)
            reader.join()
        except BaseException:  # Ctrl-C, a signal
            _end(running)
            raise
    if gone.is_set():
        raise BrokenPipeError
    status = running.returncode
    if status == 0 or (told and status in (1, 2)):
        return status
    print(f"error: an MPI process has died, and the run with it (status {status})", file=sys.stderr)
    return 1


def _end(running: subprocess.Popen[str]) -> None:
    """End mpirun, which ends its processes."""
    running.terminate()
    try:
        running.wait(5)
    except subprocess.TimeoutExpired:
        running.kill()
