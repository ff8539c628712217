# SPDX-License-Identifier: BSD-2-Clause
"""StreamBuffer: every beat, in order, under any pattern of pauses.

Mutations that were tried by hand, each seen to fail: never clearing ``spare_valid``; dropping the
write of ``spare``; taking ``i.payload`` where ``spare`` is due; ``o.valid`` without ``spare_valid``;
``i.ready`` from ``o.ready`` alone; updating ``o`` without waiting for ``o.ready``.
"""

from functools import partial

from diptych.stream_buffer import StreamBuffer
from diptych_sim.engine.simulate import simulate
from diptych_tb.stream_buffer import PAYLOAD
from support.testbench import assert_ran


def test_passes_the_stream_on():
    ran = simulate(
        partial(StreamBuffer, PAYLOAD), name="stream_buffer", test_module="diptych_tb.stream_buffer"
    )
    assert_ran(
        ran,
        "passes_every_beat_in_order",
        "passes_a_beat_per_cycle",
        "takes_two_beats_while_stalled",
    )
