# SPDX-License-Identifier: BSD-2-Clause
"""Whether commands of the prefill panel stay inside its memories."""

from diptych.systolic.isa import Queue, Target
from diptych.systolic.panel import panel_sizes

__all__ = ["check_limits"]


def check_limits(program, array):
    """Fail where a command of a program reaches beyond a memory of an array's panel."""
    sizes = panel_sizes(*array)
    for command in program.commands.commands:
        f = command.fields
        if command.queue is Queue.MATRIX:
            rows, tiles = f["rows"] & 0xFFFF, f["tiles"] >> 16
            assert f["sums"] + tiles * f["sums_n"] <= sizes.accumulators
            assert f["sums_n"] >= rows
            assert f["x"] + (rows - 1) * f["x_row"] < sizes.scratchpad
        elif command.queue is Queue.VECTOR:
            state, rows = f["first"] >> 16, f["extent"] & 0xFFFF
            assert state + rows <= sizes.rows
        elif command.queue is Queue.LOAD and command.op == Target.SCRATCHPAD.value:
            last = f["target"] + (f["rows"] - 1) * f.get("target_pitch", 0)
            assert last + f["bytes"] <= sizes.scratchpad
