# SPDX-License-Identifier: BSD-2-Clause
"""Sizes of tiles that tests share: each size is a build of its own, and takes as long as many tests."""

from typing import Any

__all__ = ["LARGE_TILE", "SMALL_TILE"]

LARGE_TILE: dict[str, Any] = {"colors": 14, "sram_bytes": 65536, "program_depth": 2048}
"""A tile that holds the rounds of several sequences, and the colors of any mapping."""
SMALL_TILE: dict[str, Any] = {"colors": 12, "sram_bytes": 7168, "program_depth": 512}
"""A tile of 3x7 that holds its model only if columns are of two kinds."""
