# SPDX-License-Identifier: BSD-2-Clause
"""Wait state of a tile, which a watchdog reads after a deadlock."""

from amaranth.hdl import unsigned
from amaranth.lib import enum

__all__ = ["WATCHED", "Wait"]

WATCHED = ("busy", "running", "task", "pc", "wait", "color")
"""Registers of a core, ``watch_<name>``: work is left; a task runs; its number and instruction (or
those of the last task); the :class:`Wait`; the color waited for."""


class Wait(enum.Enum, shape=unsigned(3)):
    """Reason why a tile did not proceed in the previous cycle."""

    NOTHING = 0
    """It proceeded."""
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
