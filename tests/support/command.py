# SPDX-License-Identifier: BSD-2-Clause
"""Runs the ``diptych`` command, inside the test and as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from diptych_sim import cli

__all__ = ["DIPTYCH", "command", "started"]

DIPTYCH = str(Path(sys.executable).with_name("diptych"))


def command(capsys: Any, monkeypatch: Any, *arguments: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["diptych", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def started(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    """Start a command as users do: without what pytest has set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    env = kept | {k: str(v) for k, v in settings.pop("env", {}).items()}
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": pipe, "text": True, "env": env, **settings}
    return subprocess.Popen([DIPTYCH, *arguments], **options)
