# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's transmitter: blocks of words beside computing and single words."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from diptych.mesh.isa import RECEIVED_MAXIMUM, Function, Op, Type
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
        weights = random_bytes(rng, rows * width).reshape(rows, width)
        x = random_bytes(rng, width)
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
    await check_causes(bench)


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
    cycles = sent_cycles(bench)
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
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def words_leave_in_a_row(dut: Any) -> None:
    """A word per cycle, but for one behind an odd first word, and one between blocks."""
    bench = await start_bench(dut)
    bench.store(A, range(80), 4)
    program = Assembler()
    blocks = [[(first, count)] for first in (0, 1) for count in range(1, 6)]
    blocks += [[(first, count), (7, 3), (first, 1)] for first in (2, 3) for count in range(5)]
    wanted = []
    for spans in blocks:
        program.scalar(Function.SEND, imm=1000, color=OUT)
        words, cycles, at = [1000], [0], 3
        for first, count in spans:
            program.vector(Op.TRANSMIT, a_base=A + 4 * first, count=count, color=OUT)
            for n in range(count):
                words.append(first + n)
                cycles.append(at)
                at += 2 if not n and first % 2 and count > 1 else 1
            at += 1
        program.scalar(Function.ADD, fence_transmit=True)
        wanted.append((words, cycles))
    program.scalar(Function.END)
    bench.run(program)
    got = await bench.receive(sum(len(words) for words, _ in wanted))
    sent = sent_cycles(bench)
    at = 0
    for spans, (words, cycles) in zip(blocks, wanted, strict=True):
        here = slice(at, at + len(words))
        assert got[here] == words, spans
        assert [cycle - sent[at] for cycle in sent[here]] == cycles, spans
        at += len(words)
    await check_causes(bench)
