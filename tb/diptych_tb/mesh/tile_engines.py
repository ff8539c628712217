# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's engines beside each other: issue, sums in memory, blocks, joined streams."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.isa import RECEIVED_MAXIMUM, STATISTIC, Function, Op, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_sim.host.clocking import current_cycle
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    A,
    B,
    Bench,
    D,
    check_causes,
    send_memory,
    send_registers,
    start_bench,
)


def _bytes(rng: random.Random, count: int) -> np.ndarray:
    return np.array([rng.randint(-128, 127) for _ in range(count)])


def _cycles(bench: Bench, first: int = 0) -> list[int]:
    return [wavelet["cycle"] for wavelet in bench.east.wavelets[OUT][first:]]


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
        gaps = [b - a for a, b in pairwise(_cycles(bench, before))]
        steps = inner if op is Op.MATVEC else 1
        assert gaps == ([steps] * (count - 1) + [steps + 1]) * 5 + [steps] * (count - 1), op
    await check_causes(dut)


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
        weights = _bytes(rng, rows * width).reshape(rows, width)
        x = _bytes(rng, parts * width).reshape(parts, width)
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
    await check_causes(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def blocks_come_and_go_beside_products(dut: Any, idle: float, stall: float) -> None:
    """TRANSMIT and RECEIVE of words beside MATVECs; all arrive, in order, as they are."""
    bench = await start_bench(dut, idle=idle, stall=stall)
    rng = bench.rng
    for turn in range(6):
        spans = [(A + 4 * rng.randrange(20), rng.randint(0, 40)) for _ in range(3)]
        stored = [rng.getrandbits(32) for _ in range(80)]
        came = [rng.choice([rng.getrandbits(32), 2**31]) for _ in range(rng.randint(1, 40))]
        scaled = np.array([rng.randint(-1000, 1000) for _ in range(rng.randint(1, 12))])
        width, rows = 16, 30
        weights = _bytes(rng, rows * width).reshape(rows, width)
        x = _bytes(rng, width)
        bench.store(A, np.array(stored, np.uint32).view(np.int32), 4)
        bench.store(B, np.concatenate([weights.reshape(-1), x]), 1)
        bench.registers({2: numbers.UNITY})
        program = Assembler()
        common: dict[str, Any] = {"color": IN, "d_type": Type.INT32, "stride": 4}
        program.vector(
            Op.RECEIVE, count=len(scaled), d_base=D, bits=32, b_reg=2, dynamic=2, statistic=1,
            **common,
        )  # fmt: skip
        program.vector(Op.RECEIVE, count=len(came), d_base=D + 0x100, **common)
        for address, count in spans:
            program.vector(Op.TRANSMIT, a_base=address, count=count, color=OUT)
        program.vector(
            Op.MATVEC,
            a_base=B,
            b_base=B + rows * width,
            d_base=D + 0x200,
            count=rows,
            inner=2,
            stride=width,
        )
        program.scalar(Function.ADD, fence_transmit=True)
        send_registers(program, [RECEIVED_MAXIMUM])
        for place, count in ((D, len(scaled)), (D + 0x100, len(came)), (D + 0x200, rows)):
            send_memory(program, place, count, str(place))
        program.scalar(Function.END)
        bench.run(program)
        bench.send(IN, [*scaled, *came])
        sent = [w for address, n in spans for w in stored[(address - A) // 4 :][:n]]
        assert await bench.receive(len(sent)) == sent, f"turn {turn}"
        assert await bench.receive(1) == [int(max(abs(scaled)))]
        assert await bench.receive(len(scaled)) == [int(v) % 2**32 for v in scaled]
        assert await bench.receive(len(came)) == came, f"turn {turn}"
        assert await bench.receive(rows) == [int(v) % 2**32 for v in weights @ x], f"turn {turn}"
    await check_causes(dut)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def sending_takes_no_cycle_of_computing(dut: Any) -> None:
    """40 words leave at a word per cycle while 3 words of 60 rows are multiplied."""
    bench = await start_bench(dut)
    program = Assembler()
    program.vector(Op.TRANSMIT, a_base=B, count=40, color=OUT)
    program.vector(Op.MATVEC, a_base=A, b_base=D + 8, d_base=D + 64, count=60, inner=3, stride=24)
    program.scalar(Function.SEND, color=OUT, fence_pipe=True)
    program.scalar(Function.END)
    bench.run(program)
    await bench.receive(41)
    cycles = _cycles(bench)
    # Words of the bank that the weights are in have to wait for the next step.
    assert cycles[39] - cycles[0] <= 39 + 20
    assert cycles[40] - cycles[0] <= 3 * 60 + 8
    assert int(dut.core.count_bank_conflict.value) == 0


@cocotb.test(timeout_time=200, timeout_unit="us")
async def single_words_leave_between_those_of_a_block(dut: Any) -> None:
    """SEND while TRANSMIT is under way: none is lost, and each keeps its own order."""
    bench = await start_bench(dut)
    block, single = list(range(40)), list(range(1000, 1012))
    bench.store(A, block, 4)
    program = Assembler()
    program.vector(Op.TRANSMIT, a_base=A, count=len(block), color=OUT)
    for word in single:
        program.scalar(Function.SEND, imm=word, color=OUT)
    program.scalar(Function.END)
    bench.run(program)
    got = await bench.receive(len(block) + len(single))
    assert [word for word in got if word < 1000] == block
    assert [word for word in got if word >= 1000] == single
    assert got.index(single[-1]) < got.index(block[-1])
    await check_causes(dut)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def receiving_takes_no_cycle_of_computing(dut: Any) -> None:
    """Rows of one step each store a sum per cycle; words that come meanwhile wait for the port."""
    bench = await start_bench(dut)
    rows, took = 60, []
    for words in (0, 40):
        program = Assembler()
        program.vector(
            Op.RECEIVE, color=IN, count=words, d_base=D + 0x200, stride=4, d_type=Type.INT32
        )
        # The first one multiplies until words come in every cycle.
        for count in (rows, rows):
            program.scalar(Function.SEND, color=OUT, fence_pipe=True)
            program.vector(
                Op.MATVEC, a_base=A, b_base=B + 8, d_base=D, count=count, inner=1, stride=8
            )
        program.scalar(Function.SEND, color=OUT, fence_pipe=True)
        send_memory(program, D + 0x200, words or 1)
        program.scalar(Function.END)
        before = len(bench.east.wavelets[OUT])
        bench.run(program)
        bench.send(IN, range(words))
        await bench.receive(3)
        assert (await bench.receive(words or 1))[:words] == list(range(words))
        first, middle, last, *_ = _cycles(bench, before)
        took.append((middle - first, last - middle))
    assert took[0] == took[1], took
    assert rows <= took[0][0] <= rows + 9
    assert int(dut.core.count_bank_conflict.value) == 0
    await check_causes(dut)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_joined_wavelet_leaves_four_cycles_after_it_came(dut: Any) -> None:
    """MOVE from a color to a color, with what is in memory: full rate, control on the last."""
    bench = await start_bench(dut)
    count = 16
    program = Assembler()
    program.vector(
        Op.MOVE,
        a_base=A,
        a_type=Type.INT32,
        d_type=Type.NONE,
        count=count,
        accumulate=1,
        bits=IN,
        to_color=1,
        color=OUT,
        control=1,
    )
    program.scalar(Function.SEND, imm=5, color=OUT, control=True)
    program.scalar(Function.SEND, imm=6, color=OUT)
    program.scalar(Function.END)
    bench.run(program)
    await ClockCycles(dut.clk, 100)
    assert not bench.east.wavelets[OUT]
    bench.send(IN, range(count))
    await RisingEdge(dut.west_i__valid)
    await RisingEdge(dut.clk)
    sent = current_cycle()
    await bench.receive(count + 2)
    got = bench.east.wavelets[OUT]
    assert [w["cycle"] - sent for w in got[:count]] == list(range(4, 4 + count))
    assert [w["control"] for w in got] == [0] * (count - 1) + [1, 1, 0]
    await check_causes(dut)
