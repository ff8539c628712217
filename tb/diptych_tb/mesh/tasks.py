# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's tasks: activation, blocking, data and control wavelets."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from diptych.mesh.fabric import Load
from diptych.mesh.isa import Function
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    check_causes,
    start_bench,
    take_and_send,
)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def tasks_start_block_and_take(dut: Any) -> None:
    """A bound task runs for each wavelet; a blocked one waits; TAKE and SEND pass words on."""
    bench = await start_bench(dut)
    program = Assembler()
    take_and_send(program, 1)
    program.scalar(Function.END)
    program.label("second")
    program.scalar(Function.UNBLOCK, imm=0)
    program.scalar(Function.END)
    bench.load(Load.PROGRAM, 0, program.words())
    # Task 0: blocked, bound to color IN; task 1 unblocks it.
    bench.load(Load.TASK, 0, [0 | 1 << 16 | 1 << 17 | IN << 18])
    bench.load(Load.TASK, 1, [3])
    values = [bench.rng.getrandbits(32) for _ in range(10)]
    bench.send(IN, values)
    await ClockCycles(dut.clk, 200)
    assert not bench.east.wavelets[OUT], "a blocked task must not run"
    bench.load(Load.ACTIVATE, 1, [])
    assert await bench.receive(10) == [(v + 1) % 2**32 for v in values]
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_control_wavelet_starts_a_control_task(dut: Any) -> None:
    """Of two tasks bound to a color, one takes data, the other control wavelets, in their order."""
    bench = await start_bench(dut)
    program = Assembler()
    take_and_send(program, 1)
    program.scalar(Function.END)
    program.label("control")
    take_and_send(program, 1000)
    program.scalar(Function.BLOCK, imm=1)
    program.scalar(Function.END)
    bench.load(Load.PROGRAM, 0, program.words())
    bound = 1 << 17 | IN << 18
    bench.load(Load.TASK, 0, [0 | bound])
    bench.load(Load.TASK, 1, [program.place("control") | bound | 1 << 23])
    await ClockCycles(dut.clk, 100)
    wavelets = [{"data": n, "color": IN, "control": n in (2, 5)} for n in range(8)]
    bench.west.send(wavelets)
    # The control task blocks itself, so that the second control wavelet waits.
    assert await bench.receive(5) == [1, 2, 1002, 4, 5]
    await ClockCycles(dut.clk, 50)
    assert len(bench.east.wavelets[OUT]) == 5
    bench.load(Load.TASK, 1, [program.place("control") | bound | 1 << 23])
    assert await bench.receive(3) == [1005, 7, 8]
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def tasks_activate_each_other_and_themselves(dut: Any) -> None:
    """A task that is activated starts when the one that runs has ended, as often as it ends."""
    bench = await start_bench(dut)
    program = Assembler()
    program.scalar(Function.SEND, imm=1, color=OUT)
    program.scalar(Function.ACTIVATE, imm=2)
    program.scalar(Function.SEND, imm=2, color=OUT)
    program.scalar(Function.END)
    program.label("counts")
    program.scalar(Function.ADD, d=9, a=9, imm=1)
    program.scalar(Function.SEND, a=9, imm=100, color=OUT)
    program.scalar(Function.LESS_THAN, d=8, a=9, imm=5)
    program.branch(8, "again")
    program.scalar(Function.ACTIVATE, imm=7)
    program.scalar(Function.END)
    program.label("again")
    program.scalar(Function.ACTIVATE, imm=2)
    program.scalar(Function.END)
    program.label("last")
    program.scalar(Function.SEND, imm=3, color=OUT)
    program.scalar(Function.END)
    bench.registers({9: 0})
    bench.load(Load.PROGRAM, 0, program.words())
    for task, label in ((2, "counts"), (7, "last")):
        bench.load(Load.TASK, task, [program.place(label)])
    bench.load(Load.TASK, 5, [0])
    bench.load(Load.ACTIVATE, 5, [])
    assert await bench.receive(8) == [1, 2, *range(101, 106), 3]
    await ClockCycles(dut.clk, 50)
    assert len(bench.east.wavelets[OUT]) == 8
    await check_causes(bench)
