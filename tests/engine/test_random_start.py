# SPDX-License-Identifier: BSD-2-Clause
"""Verilog whose registers begin with random values: what loses its initial value, what keeps it."""

from amaranth.hdl import Assert, Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.random_start import run_arguments, without_initial_values


class _Block(wiring.Component):
    i: Signal
    o: Signal

    def __init__(self):
        super().__init__({"i": In(4), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = memory.Memory(
            shape=unsigned(8), depth=16, init=range(100, 116)
        )
        m.submodules.store = store = memory.Memory(shape=unsigned(8), depth=16, init=[])
        wide = Signal(9, init=300)
        toggle = Signal()
        count = Signal(32)
        phase = Signal(3, init=5)
        looks, keeps = table.read_port(domain="comb"), store.read_port(domain="comb")
        put = store.write_port()
        m.d.comb += [
            looks.addr.eq(self.i),
            keeps.addr.eq(self.i),
            put.en.eq(toggle & self.i[0]),
            put.addr.eq(self.i),
            put.data.eq(wide),
            self.o.eq(looks.data + keeps.data + wide + toggle + count + phase),
        ]
        m.d.sync += [
            wide.eq(wide + 1),
            toggle.eq(~toggle),
            count.eq(count + 1),
            phase.eq(phase + 3),
        ]
        m.d.sync += Assert(wide != 200, "Wide must not be 200")
        return m


def test_only_tables_keep_their_values():
    (source,) = emit_verilog(_Block(), "block")
    file, text = without_initial_values(source)
    assert file == source[0]
    for register in ("[8:0] wide", "[31:0] count"):
        assert f"  reg {register} = " in source[1]
        assert f"  reg {register};" in text
    assert "  reg toggle = 1'h0;" in source[1]
    assert "  reg toggle = 1'h1;" in text
    assert "  reg [2:0] phase = 3'h5;" in source[1]
    assert "  reg [2:0] phase = 3'h2;" in text
    assert "store[3] = 8'h00;" in source[1]
    assert "store[3] = " not in text
    assert "\\table [3] = 8'h67;" in text
    assert text.count("initial begin") == 1


def test_assertions_hold_from_the_reset_on():
    (source,) = emit_verilog(_Block(), "block")
    text = without_initial_values(source)[1]
    assert text.count("assert (") == text.count("    if (!rst && (") == 1


def test_each_seed_draws_other_values():
    drawn = {argument for seed in (0, 1, 2, 2**40) for argument in run_arguments(seed)}
    assert len(drawn) == 5
