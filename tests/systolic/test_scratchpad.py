# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The scratchpad: data, arbitration, conflicts and bytes.

Mutations that were tried by hand, each seen to fail: a bank by the low bits for one port; readers
in another order; a byte mask ignored; conflicts of a port that did not wait.
"""

import re

import pytest

from diptych.systolic.scratchpad import Scratchpad
from diptych_sim.engine.simulate import simulate


@pytest.mark.parametrize(("line", "size", "banks"), [(4, 512, 8), (16, 2**17, 8), (8, 256, 1)])
def test_reads_what_was_written(line, size, banks):
    name = f"scratchpad_{line}_{banks}"
    ran = simulate(
        Scratchpad(line=line, size=size, banks=banks),
        name=name,
        test_module="diptych_tb.systolic.scratchpad",
        env={"DUT_LINE": line, "DUT_SIZE": size, "DUT_BANKS": banks},
        public=[(name, "conflicts_*")],
    )
    assert ran.tests == 8


def test_refuses_what_has_no_two_lines_in_a_bank():
    message = "Scratchpad size must be at least two lines of 16 bytes in each of 8 banks, not 128"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Scratchpad(line=16, size=128)
