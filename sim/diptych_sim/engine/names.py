# SPDX-License-Identifier: BSD-2-Clause
"""Names of the engines that run a mesh."""

from typing import Literal

__all__ = ["DEFAULT_ENGINE", "ENGINES", "Engine"]

Engine = Literal["verilator", "lanes"]
ENGINES: tuple[Engine, ...] = ("verilator", "lanes")

DEFAULT_ENGINE: Engine = "lanes"
"""Is built, and writes the first text, soonest."""
