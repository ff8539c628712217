# SPDX-License-Identifier: BSD-2-Clause
"""Runs other programs, and reads what they say line by line."""

import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

__all__ = ["end_group", "run_logged"]

_MERCY = 1.0
"""Seconds in which a program may tidy up before it is killed."""


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a program that leads a process group, and all that it has started.

    Returns when the last of them is gone: they have the program's output open until then.
    """
    for number, patience in ((signal.SIGTERM, _MERCY), (signal.SIGKILL, 5 * _MERCY)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if _ended(process, patience):
            break
    process.wait()


def _ended(process: "subprocess.Popen[str]", patience: float) -> bool:
    """Wait until nobody has a program's output open; return whether that is so."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        if select.select([output], [], [], left)[0] and not os.read(output, 65536):
            return True
    return False


def run_logged(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: TextIO,
    on_line: Callable[[str], None],
) -> int:
    """Run a command, and return its exit status; it and its output go to ``log``.

    ``on_line`` is told each line as it comes. An exception in it, Ctrl-C or a signal that is raised
    as one ends the command and all that it has started, before this returns.
    """
    log.write(shlex.join(command) + "\n")
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        process_group=0,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            log.write(line)
            on_line(line)
        return process.wait()
    except BaseException:
        end_group(process)
        raise
    finally:
        process.stdout.close()
