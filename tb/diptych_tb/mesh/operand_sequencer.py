# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's operand sequencer: issue, steps, sums in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cocotb
import numpy as np

from diptych.mesh.isa import STATISTIC, Function, Op, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    A,
    B,
    D,
    check_causes,
    random_bytes,
    send_memory,
    send_registers,
    sent_cycles,
    start_bench,
)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_vector_instruction_takes_one_cycle_to_issue(dut: Any) -> None:
    """Instructions of one kind follow each other with one cycle without a step between them."""
    bench = await start_bench(dut)
    kinds: list[tuple[Op, int, int, dict[str, Any]]] = [
        (Op.MATVEC, 4, 2, {"stride": 16}),
        (Op.MATVEC, 1, 1, {"stride": 8}),
        # 16 steps of 17: 94 % of the multipliers.
        (Op.MATVEC, 16, 1, {"stride": 8}),
        (Op.REQUANTIZE, 5, 1, {"a_type": Type.INT8, "bits": 8, "b_reg": 2, "dynamic": 2}),
        (Op.MOVE, 3, 1, {"a_type": Type.INT32, "d_type": Type.NONE}),
    ]
    for op, count, inner, more in kinds:
        bench.registers({2: numbers.UNITY})
        program = Assembler()
        for _ in range(6):
            program.vector(
                op,
                a_base=A,
                b_base=B + 8,
                count=count,
                inner=inner,
                to_color=1,
                color=OUT,
                statistic=1,
                **more,
            )
        program.scalar(Function.END)
        before = len(bench.east.wavelets[OUT])
        bench.run(program)
        await bench.receive(6 * count)
        gaps = [b - a for a, b in pairwise(sent_cycles(bench, before))]
        steps = inner if op is Op.MATVEC else 1
        assert gaps == ([steps] * (count - 1) + [steps + 1]) * 5 + [steps] * (count - 1), op
    await check_causes(bench)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.5])
async def sums_are_added_to_memory(dut: Any, idle: float) -> None:
    """MATVEC with ``accumulate``, in one to three instructions; words arrive in between."""
    bench = await start_bench(dut, idle=idle)
    rng = bench.rng
    for turn in range(14):
        rows, inner = rng.randint(1, 9), rng.choice([0, 1, 2, 3, HELD_WORDS, HELD_WORDS + 2])
        parts, planes = rng.randint(1, 3), rng.random() < 0.3 and 0 < inner <= 3
        place = D + 4 * rng.randrange(2)
        width = 8 * inner * (2 if planes else 1)
        weights = random_bytes(rng, rows * width).reshape(rows, width)
        x = random_bytes(rng, parts * width).reshape(parts, width)
        sums = np.array([rng.randint(-(2**31), 2**31 - 1) for _ in range(parts * rows)])
        product = x @ weights.T
        if planes:
            half = width // 2
            product = 256 * x[:, :half] @ weights[:, :half].T
            product += x[:, half:] @ weights[:, :half].T + x[:, :half] @ weights[:, half:].T
        expected = [int(v) % 2**32 for v in sums + product.reshape(-1)]
        bench.store(A, weights.reshape(-1), 1)
        bench.store(B, x.reshape(-1), 1)
        bench.store(place, sums, 4)
        words = [rng.getrandbits(32) for _ in range(rng.randrange(20))]
        program = Assembler()
        program.vector(
            Op.RECEIVE, color=IN, count=len(words), d_base=D + 0x400, stride=4,
            d_type=Type.INT32,
        )  # fmt: skip
        for part in range(parts):
            program.vector(
                Op.MATVEC,
                a_base=A,
                b_base=B + part * width,
                d_base=place + 4 * rows * part,
                count=rows,
                inner=inner,
                stride=width,
                planes=planes,
                accumulate=1,
                statistic=1,
            )
        send_registers(program, [STATISTIC])
        send_memory(program, place, parts * rows)
        send_memory(program, D + 0x400, len(words) or 1, "words")
        program.scalar(Function.END)
        bench.run(program)
        bench.send(IN, words)
        last = [v - 2**32 * (v >> 31) for v in expected[-rows:]]
        assert await bench.receive(1) == [max(last) % 2**32], f"turn {turn}"
        assert await bench.receive(parts * rows) == expected, f"turn {turn}: {program.lines[1]}"
        got = await bench.receive(len(words) or 1)
        assert got[: len(words)] == words, f"turn {turn}"
    await check_causes(bench)
