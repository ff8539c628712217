# SPDX-License-Identifier: BSD-2-Clause
"""Resets move to the edges of registers, and nothing else does.

That registers take them is what all testbenches see that start registers at random.
"""

from functools import partial

import pytest

from diptych.mesh.tile import Tile
from diptych_sim.engine.edge_resets import with_resets_at_edges
from diptych_sim.engine.emit import emit_verilog

MODULE = r"""module top(clk, rst, a, q);
  input clk;
  input rst;
  input [3:0] a;
  output [3:0] q;
  reg [3:0] q = 4'h5;
  reg [3:0] \$1 ;
  always @* begin
    \$1  = a;
    if (rst) begin
      \$1  = 4'h5;
    end
  end
  always @(posedge clk)
    q <= \$1 ;
{more}endmodule
"""


def test_a_reset_is_taken_at_the_edge():
    moved = with_resets_at_edges(MODULE.replace("{more}", ""))
    logic, edge = moved.split("  always @(posedge clk)\n")
    assert "rst)" not in logic.partition("always")[2]
    assert edge == "    if (rst) q <= 4'h5;\n    else q <= \\$1 ;\nendmodule\n"


@pytest.mark.parametrize(
    "more",
    [
        "  assign b = \\$1 ;\n",
        "  always @(posedge clk)\n    other <= \\$1 ;\n",
        "  inner inner (.i(\\$1 ));\n",
        "  always @* begin\n    c = 1'h0;\n    if (\\$1 ) begin\n      c = 1'h1;\n    end\n  end\n",
    ],
)
def test_a_value_that_others_use_stays(more):
    text = MODULE.replace("{more}", more)
    assert with_resets_at_edges(text) == text


def test_all_resets_of_a_tile_move():
    ((_, text),) = emit_verilog(partial(Tile, sram_bytes=2048), "tile")
    moved = with_resets_at_edges(text)
    assert text.count("if (rst) begin") > 300
    assert moved.count("if (rst) begin") <= 1
    assert moved.count("    if (rst) ") == text.count("if (rst) begin")
    assert with_resets_at_edges(moved) == moved
