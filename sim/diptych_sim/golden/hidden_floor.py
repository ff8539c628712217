# SPDX-License-Identifier: BSD-2-Clause
"""The smallest magnitude by which the hidden elements of a layer are scaled.

The largest hidden element of a row is known only when all are. Rows whose largest one is below a floor are
scaled by that, so that a mesh can go on before; it takes back what it did where a row exceeds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["COVERED", "LOSS", "hidden_floor"]

COVERED = 0.95
"""Share of the calibration's rows that do not exceed the floor."""
LOSS = 4.0
"""The floor is at most so many times the median: that is what the median loses of its resolution."""


def hidden_floor(rows: NDArray[np.floating], activation_bits: int) -> float:
    """Return the floor by the largest magnitudes of the calibration's rows, 0 if there is none.

    Parameters
    ----------
    rows : array [rows]
        The largest magnitude of each row.
    activation_bits : int
        Width of what they become; of 8 bits none can be spared.
    """
    if activation_bits == 8:
        return 0.0
    return float(min(np.quantile(rows, COVERED), LOSS * np.median(rows)))
