# SPDX-License-Identifier: BSD-2-Clause
"""Names of the engines that run a mesh."""

from typing import Literal

__all__ = ["ENGINES", "Engine"]

Engine = Literal["verilator", "lanes"]
ENGINES: tuple[Engine, ...] = ("verilator", "lanes")
