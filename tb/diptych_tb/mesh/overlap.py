# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of what a tile does at once: SEND beside the vector pipe, which reads what is received.

Mutations that were tried by hand, each seen to fail: SEND that does not look at the colors of the pipe, or at a result
that leaves; colors that are forgotten while the pipe works; an early fence that waits for nothing, for the end of a
RECEIVE, or for its last wavelet but one.
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import Load, Port
from diptych.mesh.isa import STATISTIC, Function, Op, Type
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
    integers,
    send_memory,
    send_registers,
    start_bench,
)

OTHER = 3
"""Color of the ramp to the east, as ``OUT``."""
_WORDS: dict[str, Any] = {"a_type": Type.INT32, "d_type": Type.NONE, "to_color": 1, "color": OUT}


def _open_other(bench: Bench) -> None:
    ramp, east = 1 << Port.RAMP.value, 1 << Port.EAST.value
    bench.load(Load.ROUTE, OTHER, [ramp | east << 5 | OTHER << 12])


async def _arrived(bench: Bench, color: int, count: int) -> list[dict[str, int]]:
    """Return the wavelets of a color when so many have come."""
    for _ in range(40):
        if len(bench.east.wavelets[color]) >= count:
            break
        await ClockCycles(bench.dut.clk, 50)
    return bench.east.wavelets[color]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def send_waits_for_results_of_its_color_only(dut: Any) -> None:
    """MOVE of wavelets that have not come: SEND on another color goes, one on its color does not."""
    bench = await start_bench(dut)
    _open_other(bench)
    program = Assembler()
    joins: dict[str, Any] = {**_WORDS, "a_type": Type.NONE, "accumulate": 1, "bits": IN}
    program.vector(Op.MOVE, count=2, **joins)
    program.scalar(Function.SEND, imm=5, color=OTHER)
    program.scalar(Function.SEND, imm=6, color=OUT)
    program.scalar(Function.END)
    bench.run(program)
    assert [w["data"] for w in await _arrived(bench, OTHER, 1)] == [5]
    await ClockCycles(dut.clk, 50)
    assert not bench.east.wavelets[OUT]
    bench.send(IN, [7, 8])
    assert await bench.receive(3) == [7, 8, 6]
    await check_causes(bench, "draining")


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.6])
async def send_goes_beside_the_vector_pipe(dut: Any, stall: float) -> None:
    """Results and statistics on a color, SENDs on two: each color has its words in order."""
    bench = await start_bench(dut, stall=stall)
    rng = bench.rng
    _open_other(bench)
    others: list[int] = []
    for turn in range(12):
        program, expected = Assembler(), []
        for number in range(10):
            kind = rng.choice(["results", "statistic", "send", "other", "other"])
            values = [rng.randint(0, 999) for _ in range(rng.randint(1, 9))]
            at = A + 0x40 * number
            if kind in ("send", "other"):
                color, sent = (OUT, expected) if kind == "send" else (OTHER, others)
                program.scalar(Function.SEND, imm=values[0], color=color)
                sent.append(values[0])
                continue
            bench.store(at, values, 4)
            fields: dict[str, Any] = {**_WORDS, "a_base": at, "count": len(values)}
            if kind == "statistic":
                statistic: dict[str, Any] = {"statistic": 1, "sends_statistic": 1, "d_base": D}
                fields |= {"to_color": 0, "d_type": Type.INT32, **statistic}
            program.vector(Op.MOVE, **fields)
            expected += [max(values)] if kind == "statistic" else values
        program.scalar(Function.END)
        bench.run(program)
        assert await bench.receive(len(expected)) == expected, f"turn {turn}"
    assert [w["data"] for w in await _arrived(bench, OTHER, len(others))] == others
    await check_causes(bench)


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.5])
async def requantize_reads_what_is_received_meanwhile(dut: Any, idle: float) -> None:
    """REQUANTIZE with an early fence behind RECEIVEs that add: it reads what they have added."""
    bench = await start_bench(dut, idle=idle)
    rng = bench.rng
    bench.registers({2: numbers.UNITY})
    shared: dict[str, Any] = {"b_reg": 2, "dynamic": 2}
    words: dict[str, Any] = {"d_base": D, "stride": 4, "d_type": Type.INT32, **shared}
    for turn in range(24):
        counts = [rng.choice([8, 9, 16]), rng.choice([0, 8, 8, 11])]
        sums = [integers(rng, n, 12).astype(int) for n in counts]
        before = integers(rng, max(counts), 12)
        bench.store(D, before, 4)
        program = Assembler()
        # The second one adds to the same elements.
        for count in counts:
            program.vector(
                Op.RECEIVE, color=IN, count=count, bits=16, accumulate=1, statistic=1, **words
            )
        read = counts[1] or counts[0]
        program.vector(
            Op.REQUANTIZE, a_base=D, a_type=Type.INT32, d_type=Type.INT16, d_base=A, count=read,
            bits=16, fence_receive=1, planes=1, statistic=1, to_color=1, color=OUT, **shared,
        )  # fmt: skip
        # It has nothing to wait for, and must not stand for one that is awaited.
        program.vector(Op.RECEIVE, color=IN)
        send_registers(program, [STATISTIC])
        program.scalar(Function.END)
        bench.run(program)
        out = before.copy()
        for each in sums:
            bench.send(IN, each)
            out[: len(each)] += each
        rounded = [int(v) for v in out[:read]]
        squares = int(numbers.sum_of_squares(out[:read], 0))
        got = await bench.receive(read + 1)
        assert got == [v % 2**32 for v in [*rounded, squares]], f"turn {turn}"
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def an_early_fence_saves_seven_cycles(dut: Any) -> None:
    """From the last wavelet of a RECEIVE to the results of a REQUANTIZE that waits for it."""
    bench = await start_bench(dut)
    bench.registers({2: numbers.UNITY})
    shared: dict[str, Any] = {"b_reg": 2, "dynamic": 2, "bits": 16, "count": 8}
    began = []
    for early in (0, 1):
        program = Assembler()
        program.vector(Op.RECEIVE, color=IN, d_base=D, stride=4, d_type=Type.INT32, **shared)
        program.vector(
            Op.REQUANTIZE, a_base=D, a_type=Type.INT32, d_type=Type.NONE, fence_receive=1,
            planes=early, to_color=1, color=OUT, **shared,
        )  # fmt: skip
        program.scalar(Function.SEND, imm=9, color=OUT)
        program.scalar(Function.END)
        bench.run(program)
        await ClockCycles(dut.clk, 60)
        bench.send(IN, range(8))
        await RisingEdge(dut.west_i__valid)
        await RisingEdge(dut.clk)
        sent = current_cycle()
        assert await bench.receive(9) == [*range(8), 9]
        began.append(bench.east.wavelets[OUT][-9]["cycle"] - sent)
    assert began[0] - began[1] == 7, began
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_fence_waits_for_nothing_behind_it(dut: Any) -> None:
    """A MOVE that waits for the receiver, and a RECEIVE whose words come when it has sent."""
    bench = await start_bench(dut)
    words: dict[str, Any] = {"d_type": Type.INT32}
    program = Assembler()
    program.vector(Op.RECEIVE, color=IN, count=2, d_base=A, stride=4, **words)
    program.vector(
        Op.MOVE, a_base=A, a_type=Type.INT32, d_type=Type.NONE, count=2, to_color=1, color=OUT,
        fence_receive=1,
    )  # fmt: skip
    program.vector(Op.RECEIVE, color=IN, count=2, d_base=B, stride=4, **words)
    send_memory(program, B, 2)
    program.scalar(Function.END)
    bench.run(program)
    await ClockCycles(dut.clk, 100)
    bench.send(IN, [5, 6])
    assert await bench.receive(2) == [5, 6]
    bench.send(IN, [7, 8])
    assert await bench.receive(2) == [7, 8]
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.5])
async def take_goes_before_a_joined_wavelet(dut: Any, idle: float) -> None:
    """TAKE beside a MOVE that joins wavelets of another color: both get their own."""
    bench = await start_bench(dut, idle=idle)
    other, ramp, west = 3, 1 << Port.RAMP.value, 1 << Port.WEST.value
    bench.load(Load.ROUTE, other, [west | ramp << 5 | other << 12])
    count = 12
    program = Assembler()
    program.vector(
        Op.MOVE, a_type=Type.NONE, d_base=D, d_type=Type.INT32, count=count, accumulate=1, bits=IN
    )
    for _ in range(count):
        program.scalar(Function.TAKE, d=2, color=other)
        program.scalar(Function.ADD, d=4, a=4, b=2)
    send_registers(program, [4])
    send_memory(program, D, count)
    program.scalar(Function.END)
    bench.registers({4: 0})
    bench.run(program)
    moved, taken = ([bench.rng.getrandbits(31) for _ in range(count)] for _ in range(2))
    for pair in zip(moved, taken, strict=True):
        for color, word in zip((IN, other), pair, strict=True):
            bench.send(color, [word])
    assert await bench.receive(1) == [sum(taken) % 2**32]
    assert await bench.receive(count) == moved
    await check_causes(bench)
