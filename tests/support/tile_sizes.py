# SPDX-License-Identifier: BSD-2-Clause
"""Sizes of tiles that tests share: each size is a build of its own, and takes as long as many tests."""

from typing import Any

__all__ = ["LARGE_TILE"]

LARGE_TILE: dict[str, Any] = {"sram_bytes": 65536, "program_depth": 2048}
"""A tile whose program memory holds the rounds of several sequences."""
