# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Assertions of a design are asked less often, and fail as before."""

from functools import partial

import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from diptych.mesh.tile import Tile
from diptych_sim.engine.assertions import with_assertions_inside
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.simulate import simulate


class Ring(wiring.Component):
    """Counts, and must not reach a number."""

    total: Signal

    def __init__(self, below):
        self.below = below
        super().__init__({"total": Out(40)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.total.eq(self.total + 1)
        m.d.sync += Assert(self.total < self.below, f"total must be below {self.below}")
        return m


def measure(below):
    return simulate(
        Ring(below),
        name="ring",
        test_module="diptych_tb.engine_probe",
        test_filter="reports_the_sum",
        on_event=lambda _event: None,
    )


def test_one_that_holds_stops_nothing():
    assert measure(1 << 30).tests == 1


def test_one_that_does_not_hold_fails_the_run(monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(SimulationError, match="total must be below 300"):
        measure(300)


def test_all_of_a_tile_are_written_so():
    ((_, text),) = emit_verilog(partial(Tile, sram_bytes=2048), "tile")
    inside = with_assertions_inside(text)
    assert text.count("      assert (") == inside.count("        assert (") == 21
    assert inside.count("begin\n        $write(") == 21
    assert with_assertions_inside(inside) == inside
