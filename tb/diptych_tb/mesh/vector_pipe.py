# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a tile's vector pipe: each operation against the golden model."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.isa import STATISTIC, Function, Op, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden import numbers
from diptych_sim.host.clocking import current_cycle
from diptych_tb.mesh.pipe_noise import noise_operation
from diptych_tb.mesh.tile_bench import (
    IN,
    OUT,
    SIZE,
    WIDTH,
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
    start_bench,
)


def _matvec(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    rows, inner = rng.randint(1, 9), rng.randint(1, 5)
    # Up to 20 words of X, of which 16 are held.
    inner = rng.choice([inner, inner, rng.randint(15, 20)])
    rows = min(rows, 60 // inner)
    planes, wide = rng.choice([(True, False), (False, False), (False, True), (False, True)])
    to_color = rng.random() < 0.5
    sends = not to_color and rng.random() < 0.5
    width = 8 * inner * (2 if planes else 1)
    stride = width + 8 * rng.randrange(3)
    weights = np.array([rng.randint(-127, 127) for _ in range(rows * stride)]).reshape(rows, stride)
    most = 2047 if wide else 127
    x = np.array([rng.choice([rng.randint(-most, most), -most - 1]) for _ in range(width)])
    if planes:
        high, low = slice(0, width // 2), slice(width // 2, width)
        out = (
            256 * weights[:, high] @ x[high]
            + weights[:, low][:, : width // 2] @ x[high]
            + weights[:, high] @ x[low]
        )
    else:
        out = weights[:, :width] @ x
    bench.store(A, weights.reshape(-1), 1)
    # The upper 4 bits of an int16 do not count.
    stored = [(v & 0xFFF) | rng.getrandbits(4) << 12 for v in x.tolist()]
    bench.store(B, np.array(stored, "<u2").view("<i2") if wide else x, 2 if wide else 1)
    program.vector(
        Op.MATVEC,
        a_base=A,
        b_base=B,
        d_base=D,
        count=rows,
        inner=inner,
        stride=stride,
        planes=planes,
        a_type=Type.INT16 if wide else Type.INT8,
        to_color=to_color,
        statistic=1,
        sends_statistic=sends,
        color=OUT,
        d_type=Type.INT32,
    )
    if not to_color:
        send_memory(program, D, rows)
    send_registers(program, [STATISTIC])
    sent = [max(out)] if sends else []
    return [int(v) % 2**32 for v in [*sent, *out, max(out)]], len(sent) + rows + 1


def _requantize(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count = rng.randint(1, 20)
    a_type, d_type = rng.choice(list(WIDTH)), rng.choice(list(WIDTH))
    bits = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32}[d_type]
    static, to_color = rng.random() < 0.5, rng.random() < 0.4
    # Squares are of up to 16 bits.
    bits, shift = min(bits, 16 if to_color else 32), rng.randrange(20)
    sends = not to_color and bits <= 16 and rng.random() < 0.5
    values = integers(rng, count, 8 * WIDTH[a_type])
    words = [scale_word(rng) for _ in range(count)] if static else [scale_word(rng)] * count
    dynamic = scale_word(rng)
    out = numbers.requantize(values, np.array(words), bits, dynamic)
    bench.store(A, values, WIDTH[a_type])
    bench.registers({2: words[0], 3: dynamic})
    place = B + 4 * rng.randrange(2)  # two words are read at a time
    if static:
        bench.store(place, words, 4)
    program.vector(
        Op.REQUANTIZE,
        a_base=A,
        b_base=place if static else 0,
        b_reg=0 if static else 2,
        d_base=D,
        dynamic=3,
        count=count,
        a_type=a_type,
        d_type=d_type,
        bits=bits,
        inner=shift,
        static_memory=static,
        to_color=to_color,
        statistic=1,
        sends_statistic=sends,
        color=OUT,
    )
    squares = int(numbers.sum_of_squares(out, shift)) if bits <= 16 else 0
    if sends:
        # It goes before results of the next instruction, which are sent.
        words = [rng.getrandbits(31) for _ in range(3)]
        bench.store(D + 0x100, words, 4)
        program.vector(
            Op.MOVE,
            a_base=D + 0x100,
            a_type=Type.INT32,
            d_type=Type.NONE,
            count=3,
            to_color=1,
            color=OUT,
        )
        return [squares % 2**32, *words], 4
    if to_color:
        send_registers(program, [STATISTIC])
        return [int(v) % 2**32 for v in [*out, squares]], count + 1
    size = WIDTH[d_type]
    send_memory(program, D, -(-count * size // 4))
    raw = out.astype(SIZE[size]).tobytes()
    return raw, -(-len(raw) // 4)


def _receive_beside(bench: Bench, program: Assembler, rng: random.Random) -> None:
    """Receive words that are written before results: each result must be counted and sent once.

    Register 4 is UNITY.
    """
    count = rng.randrange(30)
    program.vector(
        Op.RECEIVE,
        color=IN,
        count=count,
        b_reg=4,
        dynamic=4,
        bits=32,
        d_base=D + 0x200,
        d_type=Type.INT32,
        stride=4,
    )
    bench.send(IN, [0] * count)


def _exponential(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count = rng.randint(1, 21)
    scores = np.array([rng.randint(-60_000, 60_000) for _ in range(count)])
    top, word = int(scores.max()), scale_word(rng) - (4 << 16)
    is_byte, sends = rng.random() < 0.5, rng.random() < 0.5
    out = numbers.exponential(top - scores, word, 255 if is_byte else 2047)
    bench.store(A, scores, 4)
    bench.registers({2: top, 3: word, 4: numbers.UNITY})
    # What stands behind the powers stays, or becomes 0.
    pads, padded = rng.random() < 0.5, -(-count // 8) * 8
    behind = [0] * padded if pads else integers(rng, padded, 16).tolist()
    bench.store(D, integers(rng, padded, 16) if pads else behind, 2)
    _receive_beside(bench, program, rng)
    program.vector(
        Op.EXPONENTIAL,
        a_base=A,
        b_reg=2,
        d_base=D,
        dynamic=3,
        count=count,
        bits=8 if is_byte else 12,
        accumulate=not pads,
        statistic=1,
        sends_statistic=sends,
        color=OUT,
    )
    send_memory(program, D, padded // 2)
    send_registers(program, [STATISTIC])
    stored = np.append(out, behind[count:]).astype("<u2").tobytes()
    sent = [int(out.sum())] if sends else []
    words = [*sent, *np.frombuffer(stored, "<u4").tolist(), int(out.sum())]
    return words, len(words)


def _gate(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count = rng.randint(1, 15)
    pairs = integers(rng, 2 * count, 16).reshape(count, 2)
    shift, sends = rng.randrange(12), rng.random() < 0.5
    gated = numbers.gate(pairs[:, 0], pairs[:, 1], numbers.GATE_FRACTION - shift)
    d_type = rng.choice(list(WIDTH))
    size, out = WIDTH[d_type], gated.copy()
    bench.store(A, pairs.reshape(-1), 2)
    # Of two instructions, whose statistic is one.
    first = rng.randint(1, count)
    for begin, end, registers in ((0, first, (2, 3)), (first, count, (7, 8))):
        if end > begin:
            words, bits = [scale_word(rng) for _ in range(2)], rng.randint(2, 8 * size)
            if d_type is not Type.INT32:
                out[begin:end] = numbers.requantize(gated[begin:end], words[0], bits, words[1])
            values = words[0] | shift << 22, words[1]
            bench.registers(dict(zip(registers, values, strict=True)))
            program.vector(
                Op.GATE,
                a_base=A + 4 * begin,
                d_base=D + size * begin,
                d_type=d_type,
                b_reg=registers[0],
                dynamic=registers[1],
                bits=bits,
                count=end - begin,
                statistic=1,
                continues=begin > 0,
                sends_statistic=sends and end == count,
                color=OUT,
            )
    stored = out.astype(SIZE[size]).tobytes()
    stored += bytes(-len(stored) % 4)
    bench.store(D, [0] * count, 4)
    send_memory(program, D, len(stored) // 4)
    send_registers(program, [STATISTIC])
    largest = int(max(abs(gated)))
    sent = [largest] if sends else []
    words = [*sent, *np.frombuffer(stored, "<u4").tolist(), largest]
    return words, len(words)


def _rotate(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    heads, pairs = rng.randint(1, 3), 4 * rng.randint(1, 2)
    values = integers(rng, 2 * heads * pairs, 16).reshape(heads, pairs, 2)
    angles = np.array([rng.uniform(0, 6.3) for _ in range(pairs)])
    factors = np.round(2**14 * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(int)
    first, second = numbers.rotate(values[..., 0], values[..., 1], factors[:, 0], factors[:, 1])
    high, low = numbers.planes(np.stack([first, second], -1).reshape(heads, -1))
    bench.store(A, values.reshape(-1), 2)
    bench.store(B, factors.reshape(-1), 2)
    program.vector(
        Op.ROTATE,
        a_base=A,
        b_base=B,
        d_base=D,
        count=heads * pairs,
        inner=pairs,
        stride=4 * pairs,
    )
    send_memory(program, D, heads * pairs)
    return np.concatenate([high, low], 1).astype(np.int8).tobytes(), heads * pairs


def _move(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    count = rng.randint(1, 20)
    a_type, d_type = rng.choice([*WIDTH, Type.NONE]), rng.choice([*WIDTH, Type.NONE])
    joins = a_type is Type.NONE or rng.random() < 0.6
    maximum, to_color = rng.random() < 0.4, d_type is Type.NONE or rng.random() < 0.5
    out = integers(rng, count, 8 * WIDTH.get(a_type, 4))
    if a_type is not Type.NONE:
        bench.store(A, out, WIDTH[a_type])
    wavelets = integers(rng, count, 31)
    if a_type is Type.NONE:
        out = wavelets
    elif joins:
        out = np.maximum(out, wavelets) if maximum else out + wavelets
        out = (out + 2**31) % 2**32 - 2**31
    if not joins:
        bench.registers({4: numbers.UNITY})
        _receive_beside(bench, program, rng)
    program.vector(
        Op.MOVE,
        a_base=A,
        a_type=a_type,
        d_base=D,
        d_type=d_type,
        count=count,
        accumulate=joins,
        argmax=joins and maximum,
        bits=IN,
        to_color=to_color,
        color=OUT,
        control=1,
        statistic=1,
    )
    words = [int(v) % 2**32 for v in out] if to_color else []
    if d_type is not Type.NONE:
        # What pads the last word is not looked at.
        stored = out.astype(SIZE[WIDTH[d_type]]).tobytes()
        stored = stored[: len(stored) // 4 * 4]
        if stored:
            send_memory(program, D, len(stored) // 4)
        words += np.frombuffer(stored, "<u4").tolist()
    if joins:
        bench.send(IN, wavelets)
    send_registers(program, [STATISTIC])
    return [*words, int(max(abs(out)))], len(words) + 1


OPERATIONS = {
    "matvec": _matvec,
    "requantize": _requantize,
    "exponential": _exponential,
    "gate": _gate,
    "rotate": _rotate,
    "move": _move,
    "noise": noise_operation,
}


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(op=sorted(OPERATIONS), idle=[0.0, 0.5], stall=[0.0, 0.7])
async def vector_operations_equal_the_golden_model(
    dut: Any, op: str, idle: float, stall: float
) -> None:
    await check_operation(dut, op, OPERATIONS[op], idle=idle, stall=stall)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def a_joined_wavelet_leaves_seven_cycles_after_it_came(dut: Any) -> None:
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
    assert [w["cycle"] - sent for w in got[:count]] == list(range(7, 7 + count))
    assert [w["control"] for w in got] == [0] * (count - 1) + [1, 1, 0]
    await check_causes(bench)


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.5])
async def fences_hold_back_operands(dut: Any, idle: float) -> None:
    """MOVE of what an instruction before it has just written, of the pipe and of the receiver."""
    bench = await start_bench(dut, idle=idle)
    rng = bench.rng
    copied, received = D + 0x100, D + 0x200
    for turn in range(16):
        counts = [rng.randint(1, 4) for _ in range(2)]
        first, second = ([rng.getrandbits(31) for _ in range(n)] for n in counts)
        bench.store(A, first, 4)
        bench.registers({2: numbers.UNITY})
        # Rounded words are written first: results wait for them in the pipe's buffer.
        rounded = [rng.randint(0, 1000) for _ in range(24 * (turn % 2))]
        program = Assembler()
        words: dict[str, Any] = {"a_type": Type.INT32, "d_type": Type.INT32}
        program.vector(
            Op.RECEIVE,
            color=IN,
            count=len(rounded),
            d_base=D + 0x380,
            stride=4,
            d_type=Type.INT32,
            bits=32,
            b_reg=2,
            dynamic=2,
        )
        program.vector(
            Op.RECEIVE,
            color=IN,
            count=counts[1],
            d_base=received,
            stride=4,
            d_type=Type.INT32,
        )
        places = [A, *(D + 0x20 * n for n in range(7 * (turn % 2))), copied]
        for source, target in pairwise(places):
            program.vector(
                Op.MOVE, a_base=source, d_base=target, count=counts[0], fence_pipe=1, **words
            )
        program.vector(
            Op.MOVE,
            a_base=received,
            d_base=received + 0x100,
            count=counts[1],
            fence_receive=1,
            **words,
        )
        # It has nothing to wait for, and must not stand for the one that the MOVE waits for.
        program.vector(Op.RECEIVE, color=IN)
        send_memory(program, copied, counts[0], "copied")
        send_memory(program, received + 0x100, counts[1], "received")
        program.scalar(Function.END)
        bench.run(program)
        bench.send(IN, [*rounded, *second])
        assert await bench.receive(counts[0]) == first, f"turn {turn}"
        assert await bench.receive(counts[1]) == second, f"turn {turn}"
    await check_causes(bench)


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.8])
async def statistics_leave_in_order(dut: Any, stall: float) -> None:
    """Many statistics on a color that takes them late: none is lost, and results keep their place."""
    bench = await start_bench(dut, stall=stall)
    rng = bench.rng
    bench.registers({2: numbers.UNITY})
    for turn in range(20):
        program, expected = Assembler(), []
        for number in range(8):
            kind = rng.choice(["move", "square", "square", "rounded", "rounded", "send", "empty"])
            values = [
                rng.randint(-99, 99) for _ in range(0 if kind == "empty" else rng.randint(1, 2))
            ]
            at = A + 0x40 * number
            if values:
                bench.store(at, values, 4)
            fields: dict[str, Any] = {"a_base": at, "a_type": Type.INT32, "count": len(values)}
            more: dict[str, Any] = {"bits": 16, "b_reg": 2, "dynamic": 2, "d_type": Type.INT16}
            if kind == "rounded":
                # Of the same kind as a square before it, and so right behind it.
                program.vector(Op.REQUANTIZE, to_color=1, color=OUT, **fields, **more)
                expected += values
                continue
            if kind == "send":
                program.vector(Op.MOVE, d_type=Type.NONE, to_color=1, color=OUT, **fields)
                expected += values
                continue
            fields |= {"statistic": 1, "sends_statistic": 1, "color": OUT, "d_base": D}
            if kind == "square":
                shift = rng.randrange(6)
                program.vector(Op.REQUANTIZE, inner=shift, **fields, **more)
                expected.append(sum(v * v >> shift for v in values))
            else:
                program.vector(Op.MOVE, d_type=Type.INT32, **fields)
                expected.append(max((abs(v) for v in values), default=0))
        program.scalar(Function.END)
        bench.run(program)
        words = await bench.receive(len(expected))
        assert words == [v % 2**32 for v in expected], f"turn {turn}"
    await check_causes(bench)
