# SPDX-License-Identifier: BSD-2-Clause
"""Tells a simulator that records waveforms where time starts."""

import ctypes

from diptych_sim.host.clocking import PERIOD_NS

__all__ = ["mark_start"]


def mark_start() -> None:
    """Say that cycle 0 of the waveforms begins now; without effect if nothing is recorded."""
    program = ctypes.CDLL(None)
    if hasattr(program, "diptych_waves_mark"):
        program.diptych_waves_mark(PERIOD_NS)
