# SPDX-License-Identifier: BSD-2-Clause
"""Both phases of our machine in closed form, beside the cost model that reads programs.

Products without the ceiling of a tile, a reduction less a layer, a last layer that does all tokens,
and attention behind the diagonal were planted and seen to fail.
"""

from dataclasses import replace
from itertools import islice
from math import ceil

import numpy as np

from diptych.config import MachineConfig
from diptych_sim.bench.closed_form import DRAWS, decode_errors, prefill_errors
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.projection.own_machine import prefill_cycles
from diptych_sim.settings import seed
from support.random_model import TINY


def test_prefill_is_near_the_program():
    errors = list(islice(prefill_errors(seed()), DRAWS))
    assert np.median(np.abs(errors)) < 0.09, f"seed {seed()}"
    assert abs(np.mean(errors)) < 0.06, f"seed {seed()}"


def test_causal_folds_are_those_of_each_position():
    """Attention alone: the same products, and a fold of weights for each column of positions."""
    shape = replace(shape_of(TINY, "tiny"), heads=1, kv_heads=1, head_dim=8)
    machine = MachineConfig(array=(8, 8), weight_rows=1)
    grown = [max(prefill_cycles(replace(shape, layers=2), machine, n)) for n in (64, 72)]
    less = [max(prefill_cycles(replace(shape, layers=1), machine, n)) for n in (64, 72)]
    # One layer more: 3 planes of scores and one of values, 8 more folds of 72 to 8 rows.
    planes = 4
    folds = [planes * sum(range(8, n + 1, 8)) for n in (64, 72)]
    products = [
        (ceil(shape.dim / 8) * (4 + 0) + 3 * ceil(shape.dim / 8) * ceil(shape.hidden / 8)) * n
        for n in (64, 72)
    ]
    rest = [440 + 15 * n + 2 * 16 for n in (64, 72)]
    assert [a - b for a, b in zip(grown, less, strict=True)] == [
        sum(parts) for parts in zip(folds, products, rest, strict=True)
    ]


def test_decode_is_near_the_program():
    errors = list(islice(decode_errors(seed()), DRAWS))
    assert np.median(np.abs(errors)) < 0.035, f"seed {seed()}"
    assert abs(np.mean(errors)) < 0.02, f"seed {seed()}"  # nothing is left out of all
    assert np.abs(errors).max() < 0.16, f"seed {seed()}"
