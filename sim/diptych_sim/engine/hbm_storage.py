# SPDX-License-Identifier: BSD-2-Clause
"""The cells of an HBM in a simulator: a file that is mapped, however large.

In the hardware :class:`diptych.memory.hbm.Hbm` has them outside, so that their number is no part of a
build, and cycles in which nothing is read or written cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.memory.hbm import LINE_BITS, STORAGE

from .emit import Source

__all__ = ["HBM_VARIABLE", "hbm_sources"]

HBM_VARIABLE = "DIPTYCH_HBM"
"""Environment variable of a simulator: the file with the contents of the HBM."""

_CELLS = f"""\
module {STORAGE}(
  input clk,
  input [63:0] write_enable,
  input [{LINE_BITS - 1}:0] write_address,
  input [511:0] write_data,
  input read_enable,
  input [{LINE_BITS - 1}:0] read_address,
  output reg [511:0] read_data
);
  import "DPI-C" function void diptych_hbm_read(input int line, output bit [511:0] beat);
  import "DPI-C" function void diptych_hbm_write(
    input int line, input longint strobe, input bit [511:0] beat);
  bit [511:0] _beat;
  always @(posedge clk) begin
    if (read_enable) begin
      diptych_hbm_read(32'(read_address), _beat);
      read_data <= _beat;
    end
    if (write_enable != 0) diptych_hbm_write(32'(write_address), write_enable, write_data);
  end
endmodule
"""


def hbm_sources(design: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Return the Verilog and the C++ of the cells, if a design has an HBM that needs them."""
    if not any(f"  {STORAGE} " in text for _, text in design):
        return [], []
    code = Path(__file__).with_suffix(".cpp").read_text()
    return [(f"{STORAGE}.sv", _CELLS)], [(f"{STORAGE}.cpp", code)]
