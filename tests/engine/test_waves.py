# SPDX-License-Identifier: BSD-2-Clause
"""Waveforms, read back: the window, the scopes, states by name, fields apart, shared modules.

Mutations tried by hand and seen to fail: a window that ends a cycle early, shared modules that do
not settle, states without names, scopes that are not chosen.
"""

from typing import Any

import pytest
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from pywellen import Waveform  # pyright: ignore[reportAttributeAccessIssue] - compiled

from diptych.precompiled import Precompiled
from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.errors import ToolError
from diptych_sim.engine.simulate import simulate
from diptych_sim.engine.waves import WavePlan, readable, recording_main
from diptych_sim.report.save_files import write_save_files
from diptych_sim.report.wave_blocks import DEFAULT_BLOCKS, Block, choose_blocks

PERIOD = 2


class Color(enum.Enum, shape=unsigned(2)):
    """Colors that a cell shows."""

    RED = 0
    GREEN = 1
    BLUE = 2


class Shown(data.StructLayout):
    """Text of a cell."""

    def __init__(self):
        super().__init__({"color": Color, "count": 6})


class Cell(wiring.Component):
    """Counts up to a limit, then rests as long; shows the count with a color."""

    limit: Signal
    shown: Any
    valid: Signal

    def __init__(self):
        super().__init__({"limit": In(6), "shown": Out(Shown()), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(6)
        twice = Signal(7)
        m.d.comb += [
            twice.eq(self.limit << 1),
            self.shown.count.eq(count),
        ]
        m.d.sync += count.eq(count + 1)
        with m.FSM():
            with m.State("COUNTING"):
                m.d.sync += [self.valid.eq(1), self.shown.color.eq(Color.GREEN)]
                with m.If(count == self.limit):
                    m.d.sync += count.eq(0)
                    m.next = "RESTING"
            with m.State("RESTING"):
                m.d.sync += [self.valid.eq(0), self.shown.color.eq(Color.BLUE)]
                with m.If(count == self.limit):
                    m.d.sync += count.eq(0)
                    m.next = "COUNTING"
        return m


class Pair(wiring.Component):
    """Two cells with limits that change in each cycle, and the sum of what they show."""

    total: Signal

    def __init__(self):
        super().__init__({"total": Out(40)})

    def elaborate(self, platform):
        m = Module()
        time = Signal(6)
        m.d.sync += time.eq(time + 1)
        prototype = Cell()
        for index in range(2):
            cell: Any = Precompiled(prototype, "cell")
            m.submodules[f"cell_{index}"] = cell
            limit = Signal(6, name=f"limit_{index}")
            m.d.comb += [limit.eq(time[1:5] + 3 * index + 5), cell.limit.eq(limit)]
            m.d.sync += self.total.eq(self.total + cell.shown.as_value() + cell.valid)
        return m


@pytest.fixture(scope="module")
def sources():
    return emit_verilog(Pair(), "pair")


def record(sources, path, *, shared=True, **window):
    simulate(
        sources,
        name="pair",
        test_module="diptych_tb.engine_probe",
        options=BuildOptions(shared=("cell",) if shared else ()),
        waves=WavePlan(file=path, **window),
        test_filter="reports_the_sum",
    )
    return Waveform(str(path))


def values(waves, times):
    return {
        var.full_name: [var.signal.value_at(time) for time in times] for var in waves.all_vars()
    }


def test_shared_and_flat_show_the_same(sources, tmp_path):
    times = range(300, 401)
    shared = values(record(sources, tmp_path / "a.fst", first=300, last=400), times)
    flat = values(record(sources, tmp_path / "b.fst", shared=False, first=300, last=400), times)
    names = {name for name in flat if name.startswith("pair.")}
    assert {"pair.cell_0.twice", "pair.cell_1.fsm_state", "pair.cell_1.limit"} <= names
    assert {name: shared[name] for name in names} == {name: flat[name] for name in names}
    assert len(set(flat["pair.cell_0.twice"])) > 10


def test_records_the_window(sources, tmp_path):
    whole = record(sources, tmp_path / "whole.fst")
    part = record(sources, tmp_path / "part.fst", first=300, last=304)
    total = values(whole, range(300, 310))["pair.total"]
    assert values(part, range(300, 305))["pair.total"] == total[:5]
    assert total[4] != total[3]
    # After the window the last value stands.
    assert values(part, range(305, 310))["pair.total"] == [total[4]] * 5
    assert (tmp_path / "part.fst").stat().st_size < (tmp_path / "whole.fst").stat().st_size


def test_counts_cycles_from_the_mark(sources, tmp_path):
    # Reset takes two cycles; the testbench marks the start after them.
    whole = record(sources, tmp_path / "whole.fst")
    part = record(sources, tmp_path / "part.fst", marked=True, first=100, last=101)
    origin = next(
        time for time in range(20) if not values(whole, [time])["pair.rst"][0] and time > 1
    )
    at = range(100 * PERIOD, 102 * PERIOD)
    expected = values(whole, [origin + time for time in at])["pair.total"]
    assert values(part, at)["pair.total"] == expected


def test_shows_states_and_fields_by_name(sources, tmp_path):
    waves = record(sources, tmp_path / "a.fst", first=100, last=800)
    found = {var.full_name: var for var in waves.all_vars()}
    state = found["pair.cell_0.fsm_state"]
    assert [name for _, name in state.enum_type[1]] == ["COUNTING", "RESTING"]
    color = found["pair.cell_0.shown.color"]
    assert color.enum_type[1] == [("00", "RED"), ("01", "GREEN"), ("10", "BLUE")]
    assert found["pair.cell_0.shown.count"].length == 6
    # A cell shows green in the cycle after one of counting.
    numbers = {int(code, 2): name for code, name in state.enum_type[1]}
    for time in range(102, 800, PERIOD):
        before = numbers[state.signal.value_at(time - PERIOD)]
        assert color.signal.value_at(time) == (1 if before == "COUNTING" else 2)
    assert {numbers[state.signal.value_at(time)] for time in range(100, 800)} == {
        "COUNTING",
        "RESTING",
    }


@pytest.mark.parametrize(
    ("scopes", "inside", "outside"),
    [
        (((1, "pair"),), "pair.total", "pair.cell_0.limit"),
        (((99, "pair.cell_1"),), "pair.cell_1.limit", "pair.cell_0.limit"),
        (((2, "pair"),), "pair.cell_0.limit", "$rootio.clk"),
    ],
)
def test_records_chosen_scopes(sources, tmp_path, scopes, inside, outside):
    waves = record(sources, tmp_path / "a.fst", first=100, last=110, scopes=scopes)
    names = {var.full_name for var in waves.all_vars()}
    assert inside in names
    assert outside not in names


def test_writes_save_files(sources, tmp_path):
    path = tmp_path / "a.fst"
    record(sources, path, first=100, last=110)
    names = ("pair.total", "pair.cell_0.fsm_state", "pair.cell_*.valid", "pair.not_there")
    block = Block(name="b", scopes=((99, "pair"),), groups=(("first", names), ("none", ("x",))))
    gtkwave, surfer = write_save_files(path, [block])
    lines = gtkwave.read_text().splitlines()
    assert lines[0] == f'[dumpfile] "{path}"'
    assert [line for line in lines if line.startswith(("-", "pair"))] == [
        "-first",
        "pair.total[39:0]",
        "pair.cell_0.fsm_state",
        "pair.cell_0.valid",
        "pair.cell_1.valid",
        "-first",
    ]
    assert lines[lines.index("pair.cell_0.fsm_state") - 1] == "@100000028"
    text = surfer.read_text()
    assert text.count("item_ref: (") == text.count("Variable((") + text.count("Group((") == 5
    assert 'strs: ["pair", "cell_0"], id: Wellen((1))), name: "fsm_state"' in text
    assert "not_there" not in text
    for opening, closing in ("()", "[]", "{}"):
        assert text.count(opening) == text.count(closing)


def test_blocks_of_the_machine():
    blocks = choose_blocks([*DEFAULT_BLOCKS, "host"], mesh=(2, 2))
    assert [block.name for block in blocks] == list(DEFAULT_BLOCKS)
    assert all(block.groups for block in blocks)
    (tile,) = choose_blocks(["tile_1_0"], mesh=(2, 2), decode_alone=True)
    assert tile.scopes == ((99, "decode_panel.mesh.tile_1_0"),)


def test_leaves_ports_as_they_are():
    # A port with a type of its own would need one on both sides.
    attributes = '  (* enum_base_type = "T" *)\n  (* enum_value_0 = "A" *)\n'
    text = f"module m(x);\n{attributes}  input x;\n  wire x;\n{attributes}  reg y;\nendmodule\n"
    _, changed = readable("m.v", text)
    assert "  input x;\n  wire x;\n" in changed
    assert "  m_enum_0::T y;\n" in changed


def test_refuses_another_main_program():
    with pytest.raises(ToolError, match="two trace types to replace"):
        recording_main("int main() {}")
