# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The arithmetic blocks: their parameters, and agreement with the golden model.

Each of these changes to the hardware was seen to fail ``test_matches_the_golden_model``:
(to be listed)
"""

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.functions import ScaleFunction
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate, planes
from diptych.arith.silu import Gate
from diptych.arith.square import Square
from diptych_sim.engine.simulate import simulate
from diptych_tb.arith.vectors import BLOCKS


class Planes(wiring.Component):
    """The combinational split, with a register behind it like all the others."""

    latency = 1

    def __init__(self):
        super().__init__(
            {
                "enable": In(1),
                "value": In(signed(16)),
                "high": Out(signed(8)),
                "low": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        high, low = planes(m, self.value)
        with m.If(self.enable):
            m.d.sync += [self.high.eq(high), self.low.eq(low)]
        return m


COMPONENTS = {
    "requantizer": Requantizer,
    "scale_function": ScaleFunction,
    "exponential": Exponential,
    "gate": Gate,
    "rotate": Rotate,
    "dot8_of_1": lambda: Dot8(lanes=1),
    "dot8_of_5": lambda: Dot8(lanes=5),
    "dot8_of_8": Dot8,
    "square": Square,
    "planes": Planes,
}


def test_every_block_is_tested():
    assert COMPONENTS.keys() == BLOCKS.keys()


@pytest.mark.parametrize("name", COMPONENTS)
def test_matches_the_golden_model(name):
    component = COMPONENTS[name]()
    assert isinstance(component, wiring.Component)
    simulate(
        component,
        name=f"arith_{name}",
        test_module="diptych_tb.arith.blocks",
        env={"DUT_BLOCK": name, "DUT_LATENCY": component.latency},
    )


@pytest.mark.parametrize("lanes", [0, -1])
def test_dot8_rejects_no_lanes(lanes):
    with pytest.raises(ValueError, match=rf"^Number of lanes must be at least 1, not {lanes}$"):
        Dot8(lanes=lanes)
