# SPDX-License-Identifier: BSD-2-Clause
"""How much each layer loses by its integers, on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.rewrite import rotation

__all__ = ["layer_errors"]


def layer_errors(
    reference: FloatReference, golden: GoldenModel, tokens: Sequence[int]
) -> list[float]:
    """Relative error of what each layer adds to the residual stream of a new sequence.

    Each layer of the integers begins with the reference's stream: errors of those before it do not
    count. An error is the root of the mean square over all tokens but the first, which in many
    models is unlike the others, divided by that of what the reference adds.
    """
    m = golden.model
    turn = np.eye(m.config.dim) if m.rotation is None else rotation(m.config.dim, m.rotation)
    streams = [np.asarray(x, np.float64) @ turn for x in reference.streams(tokens)]
    golden.reset()
    errors = []
    for index in range(m.config.layers):
        rows, after = streams[index], streams[index + 1]
        found = golden.layer(index, np.round(rows / m.residual_step).astype(np.int64))
        wrong = found * m.residual_step - after
        added = after - rows
        scale = np.sqrt(np.mean(added[1:] ** 2)) or 1.0
        errors.append(float(np.sqrt(np.mean(wrong[1:] ** 2)) / scale))
    return errors
