# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of what a tile says it waits for."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import BUFFER_DEPTH
from diptych.mesh.isa import Function, Op, Type
from diptych.mesh.waits import WATCHED, Wait
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_tb.mesh.tile_bench import IN, OUT, A, B, D, check_causes, start_bench

TASK = 3
"""The task that runs."""
RECEIVE = {"d_base": D, "d_type": Type.INT32, "stride": 4, "count": 2, "color": IN}
SEND = {"a_type": Type.INT32, "d_type": Type.NONE, "to_color": True, "color": OUT}


def _ends(program: Assembler) -> None:
    """Nothing is left, and no task is ready."""


def _takes(program: Assembler) -> None:
    program.scalar(Function.TAKE, d=2, color=IN)


def _takes_function(program: Assembler) -> None:
    program.scalar(Function.TAKE_RSQRT, d=2, color=IN)


def _joins(program: Assembler) -> None:
    program.vector(Op.MOVE, count=2, accumulate=True, bits=IN, a_base=A, d_base=D, **SEND)


def _sends(program: Assembler) -> None:
    for n in range(20):
        program.scalar(Function.SEND, imm=n, color=OUT)


def _sends_results(program: Assembler) -> None:
    program.vector(Op.MOVE, a_base=A, count=40, **SEND)


def _transmits(program: Assembler) -> None:
    program.vector(Op.TRANSMIT, a_base=A, count=40, color=OUT)


def _waits_for_transmit(program: Assembler) -> None:
    _transmits(program)
    program.scalar(Function.ADD, d=2, fence_transmit=True)


def _receives(program: Assembler) -> None:
    program.vector(Op.RECEIVE, **RECEIVE)


def _waits_for_receive(program: Assembler) -> None:
    _receives(program)
    program.scalar(Function.ADD, d=2, fence_receive=True)


def _reads_received(program: Assembler) -> None:
    _receives(program)
    program.vector(
        Op.MOVE, a_base=D, a_type=Type.INT32, d_base=D, d_type=Type.INT32, count=1, fence_receive=1
    )


def _waits_for_the_pipe(program: Assembler) -> None:
    _reads_received(program)
    program.scalar(Function.ADD, d=2, fence_pipe=True)


def _has_no_room(program: Assembler) -> None:
    for _ in range(3):
        _receives(program)


CASES = {
    # Instructions, the wait, its color, and the instruction that waits, while the task runs.
    "end": (_ends, Wait.TASK, None, None),
    "take": (_takes, Wait.WAVELET, IN, 1),
    "take function": (_takes_function, Wait.WAVELET, IN, 1),
    "join": (_joins, Wait.WAVELET, IN, None),
    # The buffers of the ramp and of the neighbor are full.
    "send": (_sends, Wait.CREDIT, OUT, 2 * BUFFER_DEPTH + 1),
    "results": (_sends_results, Wait.CREDIT, OUT, None),
    "transmit": (_transmits, Wait.CREDIT, OUT, None),
    "fence of transmit": (_waits_for_transmit, Wait.CREDIT, OUT, 2),
    "receive": (_receives, Wait.RECEIVE, IN, None),
    "fence of receive": (_waits_for_receive, Wait.RECEIVE, IN, 2),
    "fence in the pipe": (_reads_received, Wait.RECEIVE, IN, None),
    "fence of that": (_waits_for_the_pipe, Wait.RECEIVE, IN, 3),
    "receives": (_has_no_room, Wait.RECEIVE, IN, 3),
}


async def _start(dut: Any, case: str) -> Any:
    bench = await start_bench(dut, case)
    bench.east.blocked = {OUT}
    for _ in range(20):
        await RisingEdge(dut.clk)
        assert not dut.core.watch_running.value
    return bench


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(case=list(CASES))
async def a_tile_says_what_it_waits_for(dut: Any, case: str) -> None:
    append, wait, color, place = CASES[case]
    bench = await _start(dut, case)
    program = Assembler()
    program.scalar(Function.ADD, d=2, imm=1)
    append(program)
    program.scalar(Function.END)
    bench.run(program, task=TASK)
    await ClockCycles(dut.clk, 300)
    for _ in range(50):
        await RisingEdge(dut.clk)
        seen = {name: int(getattr(dut.core, f"watch_{name}").value) for name in WATCHED}
        assert (Wait(seen["wait"]), seen["task"]) == (wait, TASK), seen
        assert seen["busy"] == (wait is not Wait.TASK), seen
        assert color is None or seen["color"] == color, seen
        assert seen["running"] == (place is not None), seen
        assert place is None or seen["pc"] == place, seen
    bench.east.blocked = set()
    bench.send(IN, range(10))
    await ClockCycles(dut.clk, 300)
    rests = {name: int(getattr(dut.core, f"watch_{name}").value) for name in WATCHED}
    assert (rests["busy"], Wait(rests["wait"])) == (0, Wait.TASK), rests
    await check_causes(bench)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(fenced=[False, True])
async def a_tile_waits_for_its_vector_pipe(dut: Any, fenced: bool) -> None:
    """Behind the last instruction, or at the fence of the next one: while products are made."""
    bench = await _start(dut, f"pipe {fenced}")
    program = Assembler()
    program.vector(Op.MATVEC, a_base=A, b_base=B, d_base=D, count=20, inner=4, stride=32)
    if fenced:
        program.scalar(Function.ADD, d=2, fence_pipe=True)
    program.scalar(Function.END)
    bench.run(program, task=TASK)
    core, waits = dut.core, []
    for _ in range(400):
        await RisingEdge(dut.clk)
        if Wait(int(core.watch_wait.value)) is Wait.PIPE:
            assert core.watch_busy.value
            waits.append(bool(core.watch_running.value))
    # The fence holds until the last cycle; a step is made in each of 80 others.
    assert len(waits) in range(80, 100)
    # END is over in the last cycle of the pipe.
    assert set(waits[:-1]) == {fenced}
    await check_causes(bench)
