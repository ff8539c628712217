# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The HBM: contents, order, latency, bandwidth, and its parameters.

Mutations that were tried by hand, each seen to fail: a latency one cycle short; the beat's number
kept after a burst; no throttle; beats read while none can leave;
strobes ignored; a response before its beats; writes that cost no bandwidth; no turns.
"""

import re
from functools import partial

import pytest

from diptych.memory.hbm import Hbm
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(("latency", "rate"), [(4, 64), (37, 24), (100, 64)])
def test_reads_and_writes(latency, rate):
    ran = simulate(
        partial(Hbm, size=2**14, latency=latency, bytes_per_cycle=rate),
        name="hbm",
        test_module="diptych_tb.memory.hbm",
        options=RANDOM_START,
        env={"DUT_LATENCY": latency, "DUT_BYTES_PER_CYCLE": rate},
    )
    assert_ran(
        ran,
        "answers_with_what_the_host_wrote",
        "takes_its_latency",
        "leaves_at_its_bandwidth",
        "keeps_sixteen_bursts_outstanding",
        "keeps_what_is_written",
        "reads_and_writes_share_the_bandwidth",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latency": 3}, "Latency must be at least 4 cycles, not 3"),
        ({"bytes_per_cycle": 0}, "Bandwidth must be 1 to 64 bytes per cycle, not 0"),
        ({"bytes_per_cycle": 65}, "Bandwidth must be 1 to 64 bytes per cycle, not 65"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Hbm(**{"size": 4096} | arguments)
