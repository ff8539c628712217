# SPDX-License-Identifier: BSD-2-Clause
"""The same timeline of two requests, simulated and in RTL."""

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.cost.requests import RequestCosts
from diptych_sim.run.serving.machines import Fleet, serve
from diptych_sim.run.serving.requests import Request
from diptych_sim.run.serving.rtl import ArrayCosts, Arrival, array_timeline
from support.random_model import TINY, random_model

if TYPE_CHECKING:
    from diptych_sim.run.serving.costs import Costs

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
    costs = ArrayCosts(RequestCosts(MODEL, MACHINE, TINY.context))
    requests = [Request(arrival=a.cycle, prompt=len(a.prompt), tokens=a.tokens) for a in arrivals]
    fleet = Fleet(prefill=cast("Costs", costs), prefill_machines=1)
    predicted = serve(requests, fleet).requests
    measured = array_timeline(MODEL, arrivals, MACHINE)
    assert all(answered.matches_golden for answered in measured)
    for request, answered in zip(predicted, measured, strict=True):
        assert request.first == pytest.approx(answered.first, rel=0.03)
        assert request.finished == pytest.approx(answered.last, rel=0.03)
    waited = predicted[1].started > second
    assert waited == (second < predicted[0].finished)
