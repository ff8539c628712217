# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The KV link: every key and value at its place once, also over wires that flip bits.

Mutations that were tried by hand, each seen to fail: a damaged frame accepted; a head that changes while its frame is sent; rows
counted one short; low planes beside the high ones of their head; a frame delivered before its
turn; a credit for bandwidth too many; waiting counted as sending, or as idle; wires that carry words from before the reset;
no reset of the receiver's state; go-backs counted down; refusals that are not told;
frames that are sent again after they were acknowledged; silence counted while nothing is sent, or in spite of answers, or a cycle short; a word a cycle later than the wires allow.
"""

import re
from functools import partial

import pytest

from diptych.link.channel import Delay
from diptych.link.frames import LinkWord
from diptych.link.link import KvLink
from diptych.link.transmitter import LinkTransmitter
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("rows", "latency", "bandwidth"),
    [(1, 2, 4), pytest.param(3, 50, 4, marks=pytest.mark.slow), (4, 9, 1)],
)
def test_keys_and_values_arrive_once(rows, latency, bandwidth):
    name = f"kv_link_{rows}_{latency}_{bandwidth}"
    ran = simulate(
        partial(KvLink, rows, latency=latency, bytes_per_cycle=bandwidth),
        name=name,
        test_module="diptych_tb.link.link",
        options=RANDOM_START,
        env={"DUT_ROWS": rows, "DUT_LATENCY": latency, "DUT_BYTES_PER_CYCLE": bandwidth},
        public=[(f"{name}.transmitter", part) for part in ("o", "answer", "count_*")],
    )
    assert_ran(
        ran,
        "keys_and_values_arrive_once",
        "a_frame_without_an_answer_is_sent_again",
        "a_frame_that_begins_inside_another_refuses_it",
        "frames_in_flight_are_no_silence",
    )


@pytest.mark.parametrize("latency", [1, 1025])
def test_refuses_other_latencies(latency):
    message = f"Link latency must be 2 to 1024 cycles, not {latency}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Delay(LinkWord(), latency=latency)


@pytest.mark.parametrize("bandwidth", [0, 5])
def test_refuses_other_bandwidths(bandwidth):
    message = f"Link bandwidth must be 1 to 4 bytes per cycle, not {bandwidth}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LinkTransmitter(bytes_per_cycle=bandwidth)
