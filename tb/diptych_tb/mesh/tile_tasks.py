# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's tasks and scalar instructions."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from diptych.mesh.fabric import Load
from diptych.mesh.isa import Function
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    check_causes,
    send_registers,
    start_bench,
    take_and_send,
)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def scalar_functions(dut: Any) -> None:
    """Random straight programs on registers 1 to 11, against a model of each function."""
    bench = await start_bench(dut)
    rng = bench.rng
    for _ in range(15):
        registers = {
            n: rng.getrandbits(32) if rng.random() < 0.7 else rng.randrange(4) for n in range(1, 12)
        }
        registers[0] = 0
        bench.registers({n: v for n, v in registers.items() if n})
        program = Assembler()
        for _ in range(25):
            function = rng.choice(sorted(SCALARS, key=lambda f: f.value))
            d, a, b, c = (rng.randrange(12) for _ in range(4))
            imm = rng.choice([0, 1, -1, rng.getrandbits(32) - 2**31, rng.randrange(32)])
            program.scalar(function, d=d, a=a, b=b, dynamic=c, imm=imm)
            if d:
                registers[d] = (
                    SCALARS[function](registers[a], registers[b], imm % 2**32, registers[c]) % 2**32
                )
        send_registers(program, list(range(12)))
        program.scalar(Function.END)
        bench.run(program)
        got = await bench.receive(12)
        assert got == [registers[n] for n in range(12)]
    await check_causes(dut)


SCALARS = {
    Function.ADD: lambda a, b, imm, c: a + b + imm,
    Function.SUBTRACT: lambda a, b, imm, c: a - b + imm,
    Function.MULTIPLY: lambda a, b, imm, c: (a & 0xFFFF) * (imm & 0xFFFF) + b,
    Function.AND: lambda a, b, imm, c: a & (b | imm),
    Function.SHIFT_LEFT: lambda a, b, imm, c: a << (imm & 31),
    Function.SHIFT_RIGHT: lambda a, b, imm, c: a >> (imm & 31),
    Function.BELOW: lambda a, b, imm, c: int(a < (b + imm) % 2**32),
    Function.SELECT: lambda a, b, imm, c: a + imm if c else b,
    Function.RECIPROCAL: lambda a, b, imm, c: int(numbers.reciprocal((a + imm) % 2**32)),
    Function.RSQRT: lambda a, b, imm, c: int(numbers.rsqrt((a + imm) % 2**32)),
    Function.COMBINE: lambda a, b, imm, c: int(numbers.combine(a & 2**22 - 1, b & 2**22 - 1)),
}


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
    await check_causes(dut)


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
    await check_causes(dut)
