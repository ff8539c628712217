# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The arithmetic blocks: their parameters, and agreement with the golden model.

Each of these changes to the hardware was seen to fail ``test_matches_the_golden_model``:

- every block: a register that ignores ``enable``, a table that does;
- scale words: no rounding in the product or after the shift, either edge of the clamp off by one
  half, the floor of the shift at 15, a shift taken a stage early, ``bits`` ignored;
- scale functions: a shift for zero, odd exponents rounded up, an interpolation bit dropped;
- exponential: no last rounding, the table's address off by a bit;
- gate: no rounding of SiLU, the sign a stage late, no saturation at 8, ``up`` a stage early;
- rotate and planes: no rounding, a wrong sign, either edge of the clamp off by one;
- dot products: always signed, the odd lane dropped;
- square: no shift, no magnitude;
- noise: a rotation by another place, the key's halves exchanged, no octaves beyond the table.
"""

from typing import Any

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.functions import ScaleFunction
from diptych.arith.noise import Noise
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate, planes
from diptych.arith.silu import SiluGate
from diptych.arith.square import Square
from diptych_sim.engine.simulate import simulate
from diptych_tb.arith.vectors import BLOCKS


class Planes(wiring.Component):
    """The combinational split, with a register behind it like all the others."""

    enable: Signal
    value: Signal
    high: Signal
    low: Signal
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
    "exponential_of_bytes": Exponential,
    "gate": SiluGate,
    "rotate": Rotate,
    "dot8_of_1": lambda: Dot8(lanes=1),
    "dot8_of_5": lambda: Dot8(lanes=5),
    "dot8_of_8": Dot8,
    "square": Square,
    "noise": Noise,
    "planes": Planes,
}


def test_every_block_is_tested():
    assert COMPONENTS.keys() == BLOCKS.keys()


@pytest.mark.parametrize("name", COMPONENTS)
def test_matches_the_golden_model(name):
    component: Any = COMPONENTS[name]()
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
