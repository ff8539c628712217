# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's receiver: each kind of RECEIVE against the golden model."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from diptych.mesh.isa import RECEIVED_MAXIMUM, Function, Op, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    A,
    B,
    Bench,
    D,
    Expected,
    check_causes,
    check_operation,
    integers,
    scale_word,
    send_memory,
    send_registers,
    sent_cycles,
    start_bench,
)


def _receive(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count = rng.randint(1, 20)
    biased, accumulate = rng.choice([(False, False), (True, False), (False, True)])
    static = biased or rng.random() < 0.5
    bits = rng.choice([8, 16, 24, rng.randint(8, 30)])
    values = integers(rng, count, 20)
    words = [scale_word(rng) for _ in range(count)] if static else [scale_word(rng)] * count
    dynamic = scale_word(rng)
    limit = 2 ** (bits - 1) - 1
    # At the edges of the clamp, too.
    edges = [rng.choice([-limit, limit, -limit - 1]) for _ in range(count)]
    before = np.where([rng.random() < 0.3 for _ in range(count)], edges, integers(rng, count, bits))
    if accumulate or biased:
        out = numbers.add_residual(before, values, np.array(words), dynamic, bits)
    else:
        out = numbers.requantize(values, np.array(words), bits, dynamic)
    bench.store(D, before, 4)
    bench.registers({2: words[0], 3: dynamic})
    place = B + (0 if biased else 4 * rng.randrange(2))  # two words are read at a time
    if static:
        pairs = np.stack([words, before], 1).reshape(-1) if biased else words
        bench.store(place, pairs, 4)
    program.vector(
        Op.RECEIVE,
        b_base=place if static else 0,
        b_reg=0 if static else 2,
        d_base=D,
        dynamic=3,
        count=count,
        stride=4,
        d_type=Type.INT32,
        bits=bits,
        static_memory=static,
        accumulate=accumulate,
        biased=biased,
        statistic=1,
        color=IN,
    )
    send_registers(program, [RECEIVED_MAXIMUM])
    send_memory(program, D, count)
    bench.send(IN, values)
    return [int(v) % 2**32 for v in [max(abs(out)), *out]], count + 1


def _keep(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    """Wavelets that are kept as they are, after and before some that are not, and their maximum."""
    counts = [rng.randint(1, 9) for _ in range(3)]
    values = [np.array([rng.getrandbits(32) - 2**31 for _ in range(n)]) for n in counts]
    values[1] = integers(rng, counts[1], 20)
    word, dynamic = scale_word(rng), scale_word(rng)
    bench.registers({2: word, 3: dynamic})
    for index, count in enumerate(counts):
        program.vector(
            Op.RECEIVE,
            b_reg=2,
            dynamic=3,
            d_base=D + 4 * sum(counts[:index]),
            count=count,
            stride=4,
            d_type=Type.INT32,
            bits=32 if index == 1 else 0,
            statistic=1,
            color=IN,
        )
    send_registers(program, [RECEIVED_MAXIMUM])
    send_memory(program, D, sum(counts))
    bench.send(IN, np.concatenate(values))
    values[1] = numbers.requantize(values[1], np.array([word] * counts[1]), 32, dynamic)
    words = [max(values[2]), *np.concatenate(values)]
    return [int(v) % 2**32 for v in words], 1 + sum(counts)


def _argmax(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count, shift, offset = rng.randint(1, 12), rng.randint(0, 4), rng.randrange(64)
    values = integers(rng, count, 18)
    bench.registers({2: numbers.UNITY, 3: numbers.UNITY, 4: offset})
    program.vector(
        Op.RECEIVE,
        b_reg=2,
        dynamic=3,
        a_reg=4,
        count=count,
        inner=shift,
        bits=32,
        argmax=1,
        color=IN,
        d_type=Type.NONE,
    )
    send_registers(program, [RECEIVED_MAXIMUM])
    bench.send(IN, values)
    codes = (values << shift) + offset - np.arange(count)
    return [int(codes.max()) % 2**32], 1


OPERATIONS = {
    "receive": _receive,
    "keep": _keep,
    "argmax": _argmax,
}


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(op=sorted(OPERATIONS), idle=[0.0, 0.5], stall=[0.0, 0.7])
async def received_words_equal_the_golden_model(
    dut: Any, op: str, idle: float, stall: float
) -> None:
    await check_operation(dut, op, OPERATIONS[op], idle=idle, stall=stall)


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
        first, middle, last, *_ = sent_cycles(bench, before)
        took.append((middle - first, last - middle))
    assert took[0] == took[1], took
    assert rows <= took[0][0] <= rows + 9
    assert int(dut.core.count_bank_conflict.value) == 0
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def elements_are_added_to_what_was_just_received(dut: Any) -> None:
    """RECEIVEs that accumulate into one place, each behind the other: none reads too early."""
    bench = await start_bench(dut)
    rng = bench.rng
    for turn in range(12):
        count, times = rng.randint(1, 6), 3
        before = integers(rng, count, 12)
        values = [np.array([rng.randint(-900, 900) for _ in range(count)]) for _ in range(times)]
        bench.store(D, before, 4)
        bench.registers({2: numbers.UNITY})
        program = Assembler()
        # One that is clamped to few bits beside others that are not.
        clamps = [rng.choice([8, 12, 16]) for _ in range(times)]
        for bits in clamps:
            program.vector(
                Op.RECEIVE,
                b_reg=2,
                dynamic=2,
                d_base=D,
                count=count,
                stride=4,
                d_type=Type.INT32,
                bits=bits,
                accumulate=1,
                statistic=1,
                color=IN,
            )
        send_registers(program, [RECEIVED_MAXIMUM])
        send_memory(program, D, count)
        program.scalar(Function.END)
        bench.run(program)
        bench.send(IN, np.concatenate(values))
        out = before
        for each, bits in zip(values, clamps, strict=True):
            words = np.array([numbers.UNITY] * count)
            out = numbers.add_residual(out, each, words, numbers.UNITY, bits)
        assert await bench.receive(1) == [int(max(abs(out)))], f"turn {turn}"
        got = np.array(await bench.receive(count), "<u4").view("<i4")
        assert got.tolist() == out.tolist(), f"turn {turn}"
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def addends_wait_for_late_wavelets(dut: Any) -> None:
    """RECEIVE that accumulates, whose wavelets come one by one: addends that are read stay."""
    bench = await start_bench(dut)
    rng = bench.rng
    bench.registers({2: numbers.UNITY})
    for turn in range(6):
        count = rng.randint(4, 12)
        before, values = integers(rng, count, 12), integers(rng, count, 12)
        bench.store(D, before, 4)
        program = Assembler()
        program.vector(
            Op.RECEIVE,
            b_reg=2,
            dynamic=2,
            d_base=D,
            count=count,
            stride=4,
            d_type=Type.INT32,
            bits=16,
            accumulate=1,
            color=IN,
        )
        send_memory(program, D, count)
        program.scalar(Function.END)
        bench.run(program)
        for value in values:
            await ClockCycles(dut.clk, rng.choice([1, 3, 80]))
            bench.send(IN, [value])
        got = np.array(await bench.receive(count), "<u4").view("<i4")
        assert got.tolist() == (before + values).tolist(), f"turn {turn}"
    await check_causes(bench)


KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "scaled": (10, {"b_reg": 2, "bits": 32}),
    "static": (12, {"b_base": B, "static_memory": True, "bits": 32}),
    "static, odd": (12, {"b_base": B + 4, "static_memory": True, "bits": 32}),
    "biased": (12, {"b_base": B, "static_memory": True, "biased": True, "bits": 32}),
    "added": (13, {"b_reg": 2, "accumulate": True, "bits": 32}),
    "kept": (7, {}),
}
"""Kinds of RECEIVE: cycles between words that are sent before and behind it, less one per wavelet."""


@cocotb.test(timeout_time=200, timeout_unit="us")
async def wavelets_are_taken_one_per_cycle(dut: Any) -> None:
    """All of them waiting, and nothing else reads: of those with a bias, three in four cycles."""
    bench = await start_bench(dut)
    bench.registers({2: numbers.UNITY, 3: numbers.UNITY})
    bench.store(B, [numbers.UNITY] * 40, 4)
    bench.store(D, [0] * 40, 4)
    counts = (0, 1, 2, 3, 6)
    program = Assembler()
    for _, fields in KINDS.values():
        for count in counts:
            program.scalar(Function.SEND, color=OUT)
            program.vector(
                Op.RECEIVE, d_base=D, dynamic=3, count=count, stride=4, d_type=Type.INT32,
                color=IN, **fields,
            )  # fmt: skip
            program.scalar(Function.SEND, color=OUT, fence_receive=True)
            # Until the next wavelets are there.
            program.scalar(Function.ADD, d=5, imm=16)
            program.label(f"{len(program.lines)}")
            program.scalar(Function.ADD, d=5, a=5, imm=-1)
            program.branch(5, f"{len(program.lines) - 1}")
    program.scalar(Function.END)
    bench.send(IN, range(len(KINDS) * sum(counts)))
    await ClockCycles(dut.clk, 300)
    bench.run(program)
    await bench.receive(2 * len(KINDS) * len(counts))
    sent = iter(sent_cycles(bench))
    for kind, (base, _) in KINDS.items():
        took = [-next(sent) + next(sent) for _ in counts]
        extra = [n // 3 if kind == "biased" else 0 for n in counts]
        wanted = [base + n + more if n else 4 for n, more in zip(counts, extra, strict=True)]
        assert took == wanted, kind
    await check_causes(bench)
