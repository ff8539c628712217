# SPDX-License-Identifier: BSD-2-Clause
"""How much the largest magnitude of a row grows from a norm of the residual stream to the next.

Where that is much the same for all tokens, a norm can scale its row by the magnitude that the norm
before has found, and need not wait for its own. Of FP8 training this is known as delayed scaling
(Micikevicius et al. 2022, FP8 Formats for Deep Learning).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych_sim.golden import numbers

__all__ = ["HEADROOM", "STEADY", "norm_top"]

HEADROOM = 1.25
"""Rows are expected to grow by so much more than the one that grows most in calibration."""
STEADY = 4.0
"""The one that grows most may do so by this many times the median, or else no row is scaled so.

It is what the median loses of its resolution."""
_LEAST = 2.0**-4
"""Growth that a scale word can hold is larger."""


def norm_top(
    before: NDArray[np.floating], after: NDArray[np.floating], activation_bits: int
) -> int:
    """Return the scale word of a norm by the magnitudes of the one before, 0 if it must not be.

    Parameters
    ----------
    before, after : array [rows]
        Largest magnitudes of the calibration's rows, at the norm before and at this one.
    activation_bits : int
        Width of what the norm makes; of 8 bits none can be spared.
    """
    if activation_bits == 8 or not np.all(before > 0):
        return 0
    growth = np.asarray(after, np.float64) / before
    most = float(growth.max()) * HEADROOM
    if not (most > _LEAST and growth.max() <= STEADY * np.median(growth)):  # it may be no number
        return 0
    return int(numbers.scale_word((2 ** (activation_bits - 1) - 1) / most))
