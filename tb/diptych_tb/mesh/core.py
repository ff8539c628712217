# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's core: scalar instructions."""

from __future__ import annotations

from typing import Any

import cocotb

from diptych.mesh.isa import Function
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_tb.mesh.tile_bench import (
    IN,
    check_causes,
    send_registers,
    start_bench,
)

SCALARS = {
    Function.ADD: lambda a, b, imm, c: a + b + imm,
    Function.SUBTRACT: lambda a, b, imm, c: a - b + imm,
    Function.MULTIPLY: lambda a, b, imm, c: (a & 0xFFFF) * (imm & 0xFFFF) + b,
    Function.AND: lambda a, b, imm, c: a & (b | imm),
    Function.SHIFT_LEFT: lambda a, b, imm, c: a << (imm & 31),
    Function.SHIFT_RIGHT: lambda a, b, imm, c: a >> (imm & 31),
    Function.LESS_THAN: lambda a, b, imm, c: int(a < (b + imm) % 2**32),
    Function.SELECT: lambda a, b, imm, c: a + imm if c else b,
    Function.RECIPROCAL: lambda a, b, imm, c: int(numbers.reciprocal((a + imm) % 2**32)),
    Function.RSQRT: lambda a, b, imm, c: int(numbers.rsqrt((a + imm) % 2**32)),
    Function.COMBINE: lambda a, b, imm, c: int(numbers.combine(a & 2**22 - 1, b & 2**22 - 1)),
}


TAKES = {
    Function.TAKE: lambda v: v,
    Function.TAKE_RECIPROCAL: lambda v: int(numbers.reciprocal(v)),
    Function.TAKE_RSQRT: lambda v: int(numbers.rsqrt(v)),
}


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
            if rng.random() < 0.2:
                function, d, value = rng.choice(list(TAKES)), rng.randrange(12), rng.getrandbits(32)
                program.scalar(function, d=d, color=IN)
                bench.send(IN, [value])
                registers |= {d: TAKES[function](value)} if d else {}
                continue
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
    await check_causes(bench)
