# SPDX-License-Identifier: BSD-2-Clause
"""Registers of a tile in a decode program."""

from __future__ import annotations

from enum import IntEnum

from diptych.mesh import isa

__all__ = ["Register"]


class Register(IntEnum):
    """Registers; where several sequences are decoded at once, some are loaded from their states."""

    ZERO = 0
    UNITY = isa.ARGUMENT
    """The token that a round starts with, until it has been looked up; then a scale word of 1."""
    FIRST = 2
    """The first token of the tile's column."""
    VOCABULARY = 3
    """Number of tokens of the column."""
    COUNT = 4
    """Positions that the row holds."""
    TURN = 5
    """Tokens until it is the row's turn to hold one."""
    LEFT = 6
    """Rounds that are left before a sequence ends."""
    LAYER = 7
    """Distance of the layer from layer 0, in bytes."""
    SLOT = 8
    """Where the row holds the current position; behind its slots if another row does."""
    WORDS = 9
    """Words of 8 positions that the row holds."""
    A = 10
    B = 11
    STATISTIC = isa.STATISTIC
    MAXIMUM = isa.RECEIVED_MAXIMUM
    INVERSE = 14
    """Reciprocal of the largest magnitude that the residual stream had at its last norm."""
    T = 15
