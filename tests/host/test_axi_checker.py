# SPDX-License-Identifier: BSD-2-Clause
"""The AXI checkers of the testbench: good traffic passes, each planted fault is seen."""

from typing import Any

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.memory.axi import ReadAddress, ReadData, WriteAddress, WriteData, WriteResponse
from diptych_sim.engine.simulate import simulate
from diptych_tb.memory.axi_checker_faults import FAULTS
from support.testbench import assert_ran

PAYLOADS = {
    "ar": ReadAddress(),
    "r": ReadData(),
    "aw": WriteAddress(),
    "w": WriteData(),
    "b": WriteResponse(),
}


class Wires(wiring.Component):
    """A port whose signals are all driven from outside."""

    tick: Signal

    def __init__(self) -> None:
        pins: dict[str, Any] = {"tick": Out(1)}
        for channel, payload in PAYLOADS.items():
            pins[f"axi__{channel}__payload"] = In(Shape.cast(payload))
            pins[f"axi__{channel}__valid"] = pins[f"axi__{channel}__ready"] = In(1)
        super().__init__(pins)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.tick.eq(~self.tick)  # else there were no clock
        return m


def test_sees_each_planted_fault():
    ran = simulate(Wires(), name="axi_wires", test_module="diptych_tb.memory.axi_checker_faults")
    assert_ran(ran, "lets_good_traffic_pass", *FAULTS)
