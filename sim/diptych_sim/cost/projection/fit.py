# SPDX-License-Identifier: BSD-2-Clause
"""Fits the parameters to rows, each held near to what other systems say.

Least squares of the logarithms of errors. A parameter strays from where it begins only as far as
the rows press it: a shared one from its default, one of a system's own from the shared one. So a
system with one row cannot take that row as its model, and the answer for a system without rows is
that of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diptych_sim.cost.projection.parameters import DEFAULTS, OWN, SHARED, Parameters
from diptych_sim.cost.projection.rows import Row, predict

__all__ = ["fit", "leave_one_out", "leave_one_system_out"]

ROW_ERROR = 0.08
"""Relative error of a row that is taken as usual: software differs by more than that."""
STRAYS = {
    "bandwidth_share": 0.05,
    "weight_only_share": 0.2,
    "layer_us": 0.5,
    "all_reduce_us": 0.5,
    "prefill_share": 0.25,
    "step_us": 1.0,
    "tile_share": 0.25,
    "merge_factor": 0.5,
    "position_cycles": 1.0,
}
"""Natural logarithm of the usual distance of a shared parameter from its default."""
OWN_STRAYS = {"step_us": 1.5, "prefill_share": 0.3, "merge_factor": 0.5}
"""The same of a system's own parameter from the shared one."""


def _unpack(x: np.ndarray, own: Sequence[tuple[str, str]]) -> Parameters:
    shared = {n: getattr(DEFAULTS, n) * math.exp(x[i]) for i, n in enumerate(SHARED)}
    p = Parameters(**shared)
    for i, (system, name) in enumerate(own, start=len(SHARED)):
        p = p.with_own(system, **{name: shared[name] * math.exp(x[i])})
    return p


def fit(rows: Sequence[Row]) -> Parameters:
    """Return the parameters for rows; a system without rows has none of its own."""
    # Not above: it takes a second to import, which commands need not wait for.
    from scipy.optimize import least_squares

    kinds = {row.system.id: row.system.kind for row in rows}
    own = [(system, name) for system, kind in sorted(kinds.items()) for name in OWN[kind]]
    strays = np.array([*(STRAYS[n] for n in SHARED), *(OWN_STRAYS[n] for _, n in own)])

    def errors(x: np.ndarray) -> np.ndarray:
        p = _unpack(x, own)
        misses = [math.log(predict(row, p) / row.value) / ROW_ERROR for row in rows]
        return np.array([*misses, *(x / strays)])

    # Software differs from row to row, and a few are far off: they count less than by the square.
    found = least_squares(errors, np.zeros(len(strays)), loss="soft_l1", f_scale=2.0)
    return _unpack(found.x, own)


def leave_one_out(rows: Sequence[Row]) -> list[float]:
    """Return what is predicted for each row by a fit to all others."""
    return [predict(row, fit([r for r in rows if r is not row])) for row in rows]


def leave_one_system_out(rows: Sequence[Row]) -> list[float]:
    """Return what is predicted for each row by a fit to the rows of all other systems."""
    fits = {
        system: fit([row for row in rows if row.system.id != system])
        for system in {row.system.id for row in rows}
    }
    return [predict(row, fits[row.system.id]) for row in rows]
