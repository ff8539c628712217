# SPDX-License-Identifier: BSD-2-Clause
"""A tile program of one's own: every tile of a 4x4 mesh gets the sum of its row.

Each tile sends the number in its register 2. Routers add the numbers on the way west; the router
of column 0 sends the sum back east as another color.
"""

from diptych.mesh.fabric import Combine, Port
from diptych.mesh.isa import Function
from diptych_sim.compiler.mesh_kernels.custom_program import TileContents
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.routes import RouteEntry
from diptych_sim.run.program import run_program

ROWS, COLUMNS = 4, 4
PARTIAL, SUM = 1, 2  # colors

program = Assembler()
program.scalar(Function.SEND, a=2, color=PARTIAL, comment="number of this tile")
program.scalar(Function.TAKE, d=3, color=SUM, comment="sum of the row")
program.scalar(Function.STORE, a=0, imm=0, b=3, comment="result, to SRAM address 0")
program.scalar(Function.END)


def contents(row: int, column: int) -> TileContents:
    """Return the registers and routes of a tile."""
    inner = frozenset([Port.RAMP, Port.EAST] if column + 1 < COLUMNS else [Port.RAMP])
    west = frozenset([Port.WEST])
    if column == 0:
        routes = {PARTIAL: RouteEntry(inner, inner, Combine.ADD, color=SUM)}
    else:
        routes = {
            PARTIAL: RouteEntry(inner, west, Combine.ADD, color=PARTIAL),
            SUM: RouteEntry(west, inner, color=SUM),
        }
    return TileContents(registers={2: 10 * row + column}, routes=routes)


if __name__ == "__main__":
    done = run_program(program, contents, mesh=(ROWS, COLUMNS), result_address=0, result_words=1)
    print(done.results[:, :, 0])
    print(done.cycles, "cycles")
