# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The vector unit: its parameters, and agreement of every op with the golden model.

Each of these changes to the hardware was seen to fail ``test_matches_the_golden_model``:

- ports: an answer not kept during a stall, a request made twice or while the unit is stopped, a
  write not waited for, the mask of a piece always in the first piece, a load from outside that
  collides with a scale;
- order: no wrap of the rotation's factors, no rounding up of probabilities to a line, causal rows
  one too short, ``sums2`` as ``sums``, a command done before its scales or its rows;
- lanes: no mask, planes swapped, no lower edge of the clamp in the residual addition, squares not
  shifted, statistics over all lanes or always from zero;
- causes (``VectorObserver``): draining as starting; waits for two memories exchanged;
- reductions: the higher lane, or the later tile, of equals; ``epsilon`` dropped; the top of a row
  written by other commands, too; masked lanes that are not the least; 15 bits of a tile's number.
"""

import re
from functools import partial

import pytest

from diptych.systolic.vector import VectorUnit
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.engine.simulate import simulate
from diptych_tb.systolic.vector_model import sizes_of_environment
from support.testbench import RANDOM_START


@pytest.mark.parametrize(
    ("lanes", "line"),
    [
        (4, 4),
        (4, 16),
        pytest.param(16, 16, marks=pytest.mark.slow),
        pytest.param(8, 8, marks=pytest.mark.slow),
        pytest.param(32, 32, marks=pytest.mark.slow),
    ],
)
def test_matches_the_golden_model(lanes, line, monkeypatch):
    monkeypatch.setenv("DUT_LANES", str(lanes))
    monkeypatch.setenv("DUT_LINE", str(line))
    name = f"vector_{lanes}_{line}"
    simulate(
        partial(VectorUnit, sizes_of_environment()),
        name=name,
        test_module="diptych_tb.systolic.vector",
        options=RANDOM_START,
        env={"DUT_LANES": lanes, "DUT_LINE": line},
        public=[(name, "count_*"), (name, "bytes_*")],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lanes": 6}, "Lanes must be a power of two from 4 to 128, not 6"),
        ({"line": 8}, "Line must be a power of two from lanes 16 to 128, not 8"),
        ({"scratchpad": 16}, "Scratchpad must be at least two lines of 16 bytes, not 16"),
        ({"rows": 1}, "Rows must be at least 2, not 1"),
    ],
)
def test_rejects_sizes(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VectorSizes(**arguments)
