# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The memory of a tile: data, arbitration and byte counters.

Mutations that were tried by hand, each seen to fail: three reads a cycle; two reads of one bank; a
word that the port does not keep; a byte enable too many; readers in another order.
"""

import re
from functools import partial

import pytest

from diptych.mesh.sram import Sram
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize("size", [256, 24576])
def test_reads_what_was_written(size):
    ran = simulate(
        partial(Sram, size=size),
        name=f"sram_{size}",
        test_module="diptych_tb.mesh.sram",
        options=RANDOM_START,
        env={"DUT_SIZE": size},
    )
    assert_ran(ran, "reads_what_was_written")


@pytest.mark.parametrize("size", [0, 100, 65792])
def test_refuses_other_sizes(size):
    message = f"SRAM size must be a multiple of 256 up to 65536, not {size}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Sram(size=size)
