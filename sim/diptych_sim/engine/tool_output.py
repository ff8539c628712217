# SPDX-License-Identifier: BSD-2-Clause
"""Runs other programs, and reads what they say line by line."""

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["run_logged"]


def run_logged(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: TextIO,
    on_line: Callable[[str], None],
) -> int:
    """Run a command, and return its exit status; it and its output go to ``log``.

    ``on_line`` is told each line as it comes. An exception in it, or Ctrl-C, ends the command.
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
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            log.write(line)
            on_line(line)
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
