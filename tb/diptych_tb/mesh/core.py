# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's core: scalar instructions, and the cycles that they take."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    A,
    B,
    D,
    check_causes,
    send_memory,
    send_registers,
    sent_cycles,
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
    Function.TO_SCALE: lambda a, b, imm, c: int(numbers.to_scale((a + imm) % 2**32)),
    Function.COMBINE: lambda a, b, imm, c: int(numbers.combine(a & 2**22 - 1, b & 2**22 - 1)),
}


TAKES = {
    Function.TAKE: lambda v: v,
    Function.TAKE_RECIPROCAL: lambda v: int(numbers.reciprocal(v)),
    Function.TAKE_RSQRT: lambda v: int(numbers.rsqrt(v)),
}


WORDS = 24
"""Words of memory that LOAD and STORE use, from ``D`` on."""


def _work_beside(program: Assembler, rng: random.Random) -> None:
    """Append a vector instruction that reads other memory, or writes it, while scalar ones run."""
    if rng.random() < 0.5:
        program.vector(Op.MATVEC, a_base=A, b_base=B, d_base=D - 256, count=60, inner=2, stride=16)
        return
    program.vector(
        Op.MOVE, a_base=A, d_base=B, count=100, a_type=Type.INT32, d_type=Type.INT32, statistic=1
    )


async def _count_refusals(dut: Any, refused: dict[str, int]) -> None:
    """Count the cycles in which the SRAM does not grant what one of its ports asks for."""
    ports = {name: [getattr(dut.core.sram, f"{name}__{part}") for part in ("valid", "ready")]
             for name in refused}  # fmt: skip
    while True:
        await RisingEdge(dut.clk)
        for name, (valid, ready) in ports.items():
            refused[name] += bool(valid.value and not ready.value)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def scalar_functions(dut: Any) -> None:
    """Random straight programs on registers 1 to 11 and memory, against a model of each function."""
    bench = await start_bench(dut)
    rng = bench.rng
    refused = {"scalar": 0, "scalar_write": 0}
    cocotb.start_soon(_count_refusals(dut, refused))
    for _ in range(15):
        memory = [rng.getrandbits(32) for _ in range(WORDS)]
        bench.store(D, np.array(memory, np.uint32).view(np.int32), 4)
        registers = {
            n: rng.getrandbits(32) if rng.random() < 0.7 else rng.randrange(4) for n in range(1, 12)
        }
        registers[0] = 0
        bench.registers({n: v for n, v in registers.items() if n})
        program = Assembler()
        _work_beside(program, rng)
        for _ in range(25):
            if rng.random() < 0.3:
                # Anywhere: the address is a register and an immediate.
                word, a, d = rng.randrange(WORDS), rng.randrange(12), rng.randrange(12)
                imm = (D + 4 * word - registers[a]) % 2**32
                if rng.random() < 0.5:
                    program.scalar(Function.STORE, a=a, b=d, imm=imm)
                    memory[word] = registers[d]
                    continue
                program.scalar(Function.LOAD, d=d, a=a, imm=imm)
                registers |= {d: memory[word]} if d else {}
                continue
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
        send_memory(program, D, WORDS)
        program.scalar(Function.END)
        bench.run(program)
        got = await bench.receive(12 + WORDS)
        assert got == [*(registers[n] for n in range(12)), *memory]
    await check_causes(bench)
    assert all(count > 5 for count in refused.values()), refused


CYCLES = {
    **dict.fromkeys((Function.MULTIPLY, Function.COMBINE), 2),
    Function.STORE: 3,
    **dict.fromkeys((Function.LOAD, Function.TAKE), 4),
    **dict.fromkeys((Function.RECIPROCAL, Function.RSQRT, Function.TO_SCALE), 4),
    **dict.fromkeys((Function.TAKE_RECIPROCAL, Function.TAKE_RSQRT), 7),
}
"""Cycles of functions that take more than one."""


@cocotb.test(timeout_time=200, timeout_unit="us")
async def scalar_functions_take_the_promised_cycles(dut: Any) -> None:
    """Two of each between words that are sent; also with an immediate, which some take longer for."""
    bench = await start_bench(dut)
    program = Assembler()
    wanted = []
    for function in Function:
        if function in (Function.END, Function.SEND, Function.BRANCH):
            continue
        for imm in (0, 8):
            adds = imm and function in (Function.RECIPROCAL, Function.RSQRT, Function.TO_SCALE)
            wanted.append(2 * (CYCLES.get(function, 1) + bool(adds)) + 1)
            for _ in range(2):
                # Of tasks these are none.
                number = 7 if function in TASK_FUNCTIONS else imm
                program.scalar(function, d=2, a=3, b=4, imm=number, color=IN)
            program.scalar(Function.SEND, color=OUT)
    # A branch that is not taken, and one that is.
    for register, cycles in ((0, 1), (11, 2)):
        program.branch(register, f"behind {register}")
        program.label(f"behind {register}")
        program.scalar(Function.SEND, color=OUT)
        wanted.append(cycles + 1)
    program.scalar(Function.END)
    bench.registers({3: D, 4: 0, 11: 1})
    bench.send(IN, range(12))
    for _ in range(200):
        await RisingEdge(dut.clk)
    bench.run(program)
    await bench.receive(len(wanted))
    cycles = sent_cycles(bench)
    # Of the first one the begin is not seen.
    assert [b - a for a, b in pairwise(cycles)] == wanted[1:]
    await check_causes(bench)


TASK_FUNCTIONS = (Function.ACTIVATE, Function.BLOCK, Function.UNBLOCK)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.5])
async def loading_waits_for_results(dut: Any, idle: float) -> None:
    """Words and bytes are loaded while the vector pipe writes a result in each cycle; none is lost."""
    bench = await start_bench(dut, idle=idle)
    rng = bench.rng
    refused = {"loader_write": 0}
    cocotb.start_soon(_count_refusals(dut, refused))
    words = 100
    for turn in range(4):
        stored = np.array([rng.getrandbits(32) for _ in range(words)], np.uint32).view(np.int32)
        program = Assembler()
        program.vector(Op.MOVE, a_base=A, d_base=B, count=400, a_type=Type.INT32, d_type=Type.INT32)
        # Behind what is loaded meanwhile.
        program.scalar(Function.TAKE, color=IN, fence_pipe=True)
        send_memory(program, D, words)
        send_registers(program, [9])
        program.scalar(Function.END)
        bench.store(A, [turn] * 400, 4)
        bench.run(program)
        for at in range(0, words, 20):
            bench.store(D + 4 * at, stored[at : at + 20], 4)
        bench.registers({9: turn + 7})
        for _ in range(600):
            await RisingEdge(dut.clk)
        bench.send(IN, [0])
        wanted = [int(v) % 2**32 for v in stored]
        assert await bench.receive(words + 1) == [*wanted, turn + 7]
    await check_causes(bench)
    assert refused["loader_write"] > 100, refused
