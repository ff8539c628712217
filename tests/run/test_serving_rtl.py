# SPDX-License-Identifier: BSD-2-Clause
"""The same timeline of two requests, simulated and in RTL."""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.run.serving.rtl import Arrival, array_timeline, served_timeline
from support.random_model import TINY, random_model

MODEL = random_model(TINY, 3)
MACHINE = MachineConfig(array=(4, 4))


# The second request comes while the first is written, or when it has long been.
@pytest.mark.parametrize("second", [20_000, 32_000])
def test_rtl_agrees_with_the_timeline(second):
    rng = np.random.default_rng(1)
    arrivals = [
        Arrival(cycle, rng.integers(0, TINY.vocab, length).tolist(), tokens)
        for cycle, length, tokens in ((0, 12, 4), (second, 5, 3))
    ]
    predicted = served_timeline(MODEL, arrivals, MACHINE)
    measured = array_timeline(MODEL, arrivals, MACHINE)
    assert all(answered.matches_golden for answered in measured)
    for (first, last), answered in zip(predicted, measured, strict=True):
        assert first == pytest.approx(answered.first, rel=0.01)
        assert last == pytest.approx(answered.last, rel=0.01)
    # The second waits for the first, or comes to an idle machine.
    alone = predicted[1][0] - second < 1.01 * (predicted[0][0])
    assert alone == (second > predicted[0][1])
