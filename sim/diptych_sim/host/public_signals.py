# SPDX-License-Identifier: BSD-2-Clause
"""What testbenches of a mesh read of its tiles."""

from diptych.mesh.waits import WATCHED

__all__ = ["TILE_PUBLIC"]

TILE_PUBLIC = (
    ("tile.core", "count_*"),
    ("tile.router", "count_*"),
    *(("tile.core", f"watch_{name}") for name in WATCHED),
)
"""Counters, and the registers of the watchdog: modules and variables to publish."""
