# SPDX-License-Identifier: BSD-2-Clause
"""What a tile waits for: state that a watchdog reads when nothing moves any more."""

from amaranth.hdl import unsigned
from amaranth.lib import enum

__all__ = ["WATCHED", "Wait"]

WATCHED = ("busy", "running", "task", "pc", "wait", "color")
"""Registers of a core, ``watch_<name>``, that tell what it does: whether anything is left to do,
whether a task runs, its number and instruction (or those of the last one), a :class:`Wait`, and
the color that is waited for."""


class Wait(enum.Enum, shape=unsigned(3)):
    """Why a tile did not go on in the cycle before."""

    NOTHING = 0
    """It went on."""
    CREDIT = 1
    """A wavelet of that color cannot leave: the neighbor's buffer is full."""
    WAVELET = 2
    """A TAKE waits for a wavelet of that color."""
    RECEIVE = 3
    """A RECEIVE has not ended; it waits for wavelets of that color."""
    PIPE = 4
    """The vector pipe has not ended."""
    TASK = 5
    """No task is ready."""
