# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The scratchpad and memories of entries: data, arbitration, conflicts and bytes.

Mutations that were tried by hand, each seen to fail: a bank by the low bits for one port; readers
in another order; a byte mask ignored; conflicts of a port that did not wait; the first group of a
block, or the first line of a group, for all; writes at the begin of their block.
"""

import re
from functools import partial

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from diptych.config import ACTIVATION_BITS
from diptych.systolic.scratchpad import EntryMemory, Scratchpad
from diptych_sim.engine.simulate import simulate
from support.testbench import RANDOM_START, assert_ran


@pytest.mark.parametrize(
    ("line", "size", "banks", "group"),
    [
        (4, 1024, 8, 2),
        pytest.param(16, 2**17, 8, 1, marks=pytest.mark.slow),
        (8, 256, 1, 4),
        pytest.param(32, 4096, 8, 4, marks=pytest.mark.slow),
    ],
)
def test_reads_what_was_written(line, size, banks, group):
    name = f"scratchpad_{line}_{banks}"
    ran = simulate(
        partial(Scratchpad, line=line, size=size, banks=banks, group=group),
        name=name,
        test_module="diptych_tb.systolic.scratchpad",
        options=RANDOM_START,
        env={"DUT_LINE": line, "DUT_SIZE": size, "DUT_BANKS": banks, "DUT_GROUP": group},
        public=[(name, "conflicts_*")],
    )
    assert_ran(ran, "reads_what_was_written")


@pytest.mark.parametrize(("depth", "elements"), [(2, 1), (32, 4)])
def test_entries_are_written_by_element(depth, elements):
    ran = simulate(
        partial(EntryMemory, data.ArrayLayout(signed(ACTIVATION_BITS), elements), depth=depth),
        name=f"entries_{depth}_{elements}",
        test_module="diptych_tb.systolic.entry_memory",
        options=RANDOM_START,
        env={"DUT_DEPTH": depth, "DUT_ELEMENTS": elements},
    )
    assert_ran(ran, "reads_what_earlier_cycles_wrote")


def test_refuses_what_has_no_two_blocks_in_a_bank():
    message = "Scratchpad size must be at least two blocks of 64 bytes in each of 8 banks, not 512"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Scratchpad(line=16, size=512)
