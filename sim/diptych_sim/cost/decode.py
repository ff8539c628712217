# SPDX-License-Identifier: BSD-2-Clause
"""Cost model of the decode panel: cycles of a token, from the tiles' program alone."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from diptych.mesh.isa import Function, Instruction, Op, Tail
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych.mesh.register_file import ENGINE_REGISTERS
from diptych.mesh.vector_pipe_signals import STAGES
from diptych_sim.compiler.array.commands import field_of
from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.compiler.decode.placement import Placement, State
from diptych_sim.compiler.decode.program import suffix_of
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.tile.registers import Register

__all__ = ["decode_cost", "decode_macs", "decode_rounds"]

_CYCLES_PER_ELEMENT = {Op.ROTATE: 2}
_SCALARS = {
    Function.LOAD: 4,
    Function.STORE: 3,
    Function.TAKE: 4,
    Function.TAKE_RECIPROCAL: 7,
    Function.TAKE_RSQRT: 7,
    Function.MULTIPLY: 2,
    Function.COMBINE: 2,
    Function.BRANCH: 2,
    Function.RECIPROCAL: 4,
    Function.RSQRT: 4,
    Function.TO_SCALE: 4,
}
"""Cycles of a function; those of a scale have one more with an immediate."""
_TAKES = (Function.TAKE, Function.TAKE_RECIPROCAL, Function.TAKE_RSQRT)
_SCALES = (Function.RECIPROCAL, Function.RSQRT, Function.TO_SCALE)
_OPERANDS = ("a_reg", "b_reg", "dynamic")
_PADDED = 8
"""Powers are padded to words of so many."""
_RAMPS = 4
"""Cycles from a result over the ramp into the router and out of it again, on both ends."""
_RECEIVE = 9
"""Cycles from a wavelet to its element and its statistics in registers."""
_SCALES_READ = 3
"""Cycles from the last wavelet of a RECEIVE to the first one of the next."""
_REDUCED = {
    Color.COLUMN_ADD: Color.COLUMN_SUM,
    Color.COLUMN_MAX: Color.COLUMN_TOP,
    Color.ROW_ADD: Color.ROW_SUM,
    Color.ROW_MAX: Color.ROW_TOP,
    Color.GROUP_ADD: Color.GROUP_SUM,
    Color.GROUP_MAX: Color.GROUP_TOP,
}
_WAVELETS = (8, 9)
"""Results that reduce in so many cycles, where each is there in one: buffers hold 8."""
_ROUND = 5
"""Cycles of a round beside those of its instructions."""
_RECEIVED_READS = {int(Color.COLUMN_ADD): 1, int(Color.ROW_ADD): 2}
"""Words that the receiver of a product's results reads for each: its scale, and what it adds to."""


@dataclass
class _Clock:
    """Where a tile is."""

    now: int = 0
    op: Op = Op.MATVEC
    """What the vector pipe does."""
    started: int = 0
    """When its last instruction has left the queue."""
    pipe: int = 0
    """From when on it has no step left."""
    piped: int = 0
    """From when on all its results are where they belong."""
    received: int = 0
    arrivals: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """When the last wavelet of a color comes."""
    singles: dict[int, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    """When those of SEND come that have not been taken."""
    results: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 1]))
    """Of a color's vector results: when the last one comes, how many have no RECEIVE yet, less than
    none if a RECEIVE waits for them, and the cycles from one to the next."""


def decode_cost(program: DecodeProgram) -> int:
    """Return the cycles from the first tokens to the last one, as of :func:`decode_rounds`."""
    return sum(decode_rounds(program))


def decode_rounds(program: DecodeProgram, part: Container[int] | None = None) -> list[int]:
    """Return the cycles of each round, with ``part`` of these only, counted from 0.

    One tile stands for all: they run one program in step. A reduction comes back to all tiles of a
    line after ``max(root, n - 1 - root)`` hops, a cycle in the middle, where two directions meet,
    and as many hops back, at a wavelet a cycle. It leaves out conflicts in the SRAM, wavelets that
    wait for each other, and rows that hold one position less.
    """
    place = program.placement
    instructions = [field_of(Instruction(), bits) for bits in program.program.encoded()]
    hops = {}
    for first, count in ((Color.COLUMN_ADD, place.rows), (Color.ROW_ADD, place.columns)):
        root = count // 2
        for color in (first, first + 2):
            hops[color] = 2 * max(root, count - 1 - root) + 1 + _RAMPS
    hops[Color.GROUP_ADD] = hops[Color.GROUP_MAX] = 2 * (place.split // 2) + 1 + _RAMPS
    cycles = []
    for round_, order in _slowest_rounds(program, instructions):
        if part is not None and round_ not in part:
            continue
        loads = _loads(program, round_)
        clock = _Clock()
        registers = dict(loads[None])
        for index in order:
            i = instructions[index]
            registers |= loads.get(i["tail"] if _is_load(i) else -1, {})
            _run(clock, i, registers, hops)
        # What is in the pipe yet holds up the next round, too.
        cycles.append(max(clock.now, clock.pipe) + _ROUND)
    return cycles


def decode_macs(program: DecodeProgram, part: range | None = None) -> list[int]:
    """Return the MACs of each tile, row by row, from the first tokens to the last one.

    With ``part`` they are those of these rounds, counted from 0.

    They follow from the instructions, and from the positions of its row and the tokens of its
    column; a step takes 8.
    """
    place = program.placement
    instructions = [field_of(Instruction(), bits) for bits in program.program.encoded()]
    tails = [field_of(Tail(), i["tail"]) for i in instructions]
    vocabulary = program.model.config.vocab
    tokens = [len(place.tokens(column, vocabulary)) for column in range(place.columns)]
    macs = np.zeros((place.rows, place.columns), dtype=np.int64)
    for kind in place.kinds:
        columns = slice(kind.span.start, kind.span.stop)
        for round_, order in _rounds(program, instructions, kind):
            for row in range(place.rows if part is None or round_ in part else 0):
                loads = _loads(program, round_, row)
                registers = {k: v for k, v in loads[None].items() if k != Register.VOCABULARY}
                for index in order:
                    i, tail = instructions[index], tails[index]
                    if _is_load(i):
                        registers |= loads.get(i["tail"], {})
                    if i["op"] != Op.MATVEC.value:
                        continue
                    inner = i["inner"] + registers.get(tail["inner_reg"], 0)
                    steps = 8 * inner * (3 if tail["planes"] else 1)
                    count = i["count"] + registers.get(tail["count_reg"], 0)
                    macs[row, columns] += steps * count
                    if tail["count_reg"] == Register.VOCABULARY:
                        macs[row, columns] += steps * np.array(tokens[columns])
    return macs.reshape(-1).tolist()


@dataclass(frozen=True)
class _Spans:
    """Instructions of a round: before the layers, of each, and behind them."""

    before: range
    layer: range
    behind: range

    def order(self, layer: Sequence[int], layers: int) -> list[int]:
        """Return them in the order in which they run, with ``layer`` as those of each layer."""
        return [*self.before, *list(layer) * layers, *self.behind]


def _spans(
    program: DecodeProgram, instructions: Sequence[dict[str, int]], number: int, kind: Placement
) -> _Spans:
    """Return the rounds of an element of the plan in a kind of column."""
    labels, suffix = program.program.labels, suffix_of(number, kind)
    start, layer, end = (labels[f"{name}{suffix}"] for name in ("token", "layer", "over"))
    # The branch behind a layer goes back to its begin.
    branch = next(
        index
        for index in range(layer, end)
        if Function(instructions[index]["function"]) is Function.BRANCH
    )
    return _Spans(range(start, layer), range(layer, branch + 1), range(branch + 1, end))


def _rounds(
    program: DecodeProgram, instructions: Sequence[dict[str, int]], kind: Placement
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each round, and its instructions in the order in which they run."""
    round_ = 0
    for number, rounds in enumerate(program.plan):
        spans = _spans(program, instructions, number, kind)
        order = spans.order(spans.layer, program.model.config.layers)
        for _ in range(rounds.count):
            yield round_, order
            round_ += 1


def _slowest_rounds(
    program: DecodeProgram, instructions: Sequence[dict[str, int]]
) -> Iterator[tuple[int, list[int]]]:
    """Yield as :func:`_rounds` does, of each part of a round those columns that take longest.

    Columns without heads wait for the others' contexts, and have more to do from there on.
    """
    place = program.placement
    if place.headless is None:
        yield from _rounds(program, instructions, place)
        return
    round_ = 0
    for number, rounds in enumerate(program.plan):
        first, other = (_spans(program, instructions, number, kind) for kind in place.kinds)
        layer = [
            *range(first.layer.start, _behind_attention(program, first.layer)),
            *range(_behind_attention(program, other.layer), other.layer.stop),
        ]
        tokens = max(place.kinds, key=lambda kind: kind.vocabulary)
        behind = first if tokens is place else other
        order = _Spans(first.before, first.layer, behind.behind).order(
            layer, program.model.config.layers
        )
        for _ in range(rounds.count):
            yield round_, order
            round_ += 1


def _behind_attention(program: DecodeProgram, layer: range) -> int:
    """Return the first instruction of a layer behind the output projection."""
    operations = program.program.operations
    output = next(index for index in layer if operations[index] == "output")
    return next(index for index in range(output, layer.stop) if operations[index] != "output")


def _is_load(i: dict[str, int]) -> bool:
    return i["op"] == Op.SCALAR.value and i["function"] == Function.LOAD.value


def _loads(program: DecodeProgram, round_: int, row: int = 0) -> dict[int | None, dict[int, int]]:
    """Return registers of a round by the address that they are loaded from; None: from the start.

    Row 0 has the most positions.
    """
    place = program.placement
    tokens = max(kind.vocabulary for kind in place.kinds)
    loads: dict[int | None, dict[int, int]] = {None: {Register.VOCABULARY: tokens}}
    for n, length in enumerate(program.prompt_tokens):
        slots = len(range(row, length + round_ + 1, place.rows))
        held = {State.COUNT: slots, State.WORDS: -(-slots // 8)}
        for word, value in held.items():
            register = {Register[word.name].value: value}
            if place.sequences == 1:
                loads[None] |= register
            else:
                loads[place.at("state", n) + 4 * word] = register
    return loads


def _run(clock: _Clock, i: dict[str, int], registers: dict[int, int], hops: dict[int, int]) -> None:
    op = Op(i["op"])
    tail = field_of(Tail(), i["tail"])
    for_pipe = op not in (Op.SCALAR, Op.RECEIVE, Op.TRANSMIT)
    used = {i[name] for name in _OPERANDS}
    if op is not Op.SCALAR:
        used |= {i["d_reg"], tail["count_reg"], tail["inner_reg"]}
    reads_engine = bool(used & set(ENGINE_REGISTERS))
    # Others for the pipe wait for their fences in its queue.
    waits = not for_pipe or reads_engine
    loaded = clock.now + reads_engine
    if i["fence_pipe"] and waits:
        clock.now = max(clock.now, clock.piped)
    if i["fence_receive"] and waits:
        clock.now = max(clock.now, clock.received)
    clock.now = max(clock.now, loaded) + 1
    if op is Op.SCALAR:
        function, color = Function(i["function"]), i["count"]
        clock.now += _SCALARS.get(function, 1) - 1 + (function in _SCALES and i["tail"] != 0)
        if function is Function.SEND and color in hops:
            result = _REDUCED[Color(color)]
            clock.arrivals[result] = max(clock.arrivals[result], clock.now + hops[color])
            clock.singles[result].append(clock.arrivals[result])
        elif function in _TAKES and clock.singles[color]:
            after = _SCALARS[function] - _SCALARS[Function.TAKE]
            clock.now = max(clock.now, clock.singles[color].popleft() + after)
        return
    count = i["count"] + registers.get(tail["count_reg"], 0)
    if op is Op.RECEIVE:
        results = clock.results[tail["color"]]
        if results[1] > 0:
            later = results[2] * max(0, results[1] - count)
            # Behind another one its scales are read first.
            behind = clock.received + _SCALES_READ + count if clock.received > clock.now else 0
            clock.received = max(behind, results[0] - later + _RECEIVE)
        results[1] -= count
        # Wavelets may wait for it, one behind the other; scales in memory are read first.
        first = clock.now + _SCALES_READ * tail["static_memory"]
        clock.received = max(clock.received, first + count + _RECEIVE)
        return
    if op is Op.EXPONENTIAL:
        count = -(-count // _PADDED) * _PADDED
    elements = count
    if op is Op.MATVEC:
        inner = i["inner"] + registers.get(tail["inner_reg"], 0)
        count *= max(1, inner * (3 if tail["planes"] else 1))
        if inner > HELD_WORDS and tail["color"] in _RECEIVED_READS and tail["to_color"]:
            # Both operands of each step are read, and the receiver's reads take turns with these.
            count += elements * _RECEIVED_READS[tail["color"]]
    if tail["to_color"] and tail["color"] in hops:
        count = max(count, (elements - 1) * _WAVELETS[1] // _WAVELETS[0] + 1)
    clock.now = max(clock.now, clock.started + 1)
    start = max(clock.now, clock.pipe + (0 if op is clock.op else STAGES[clock.op]))
    if not waits:
        start = max(
            start, i["fence_pipe"] * (clock.piped - 1), i["fence_receive"] * (clock.received - 1)
        )
    clock.op, clock.started = op, start
    clock.pipe = start + 1 + count * _CYCLES_PER_ELEMENT.get(op, 1)
    clock.piped = clock.pipe + STAGES[op] + 1
    if i["sends_statistic"]:
        result = _REDUCED[Color(tail["color"])]
        squares = op is Op.REQUANTIZE
        arrival = clock.piped + 1 + squares + hops[tail["color"]]
        clock.arrivals[result] = max(clock.arrivals[result], arrival)
        clock.singles[result].append(clock.arrivals[result])
    if tail["to_color"] and tail["color"] in hops:
        result = _REDUCED[Color(tail["color"])]
        clock.arrivals[result] = clock.piped + hops[tail["color"]]
        results = clock.results[result]
        if results[1] < 0:
            clock.received = max(clock.received, clock.arrivals[result] + _RECEIVE)
        results[:] = (
            clock.arrivals[result],
            results[1] + elements,
            max(1, count // max(1, elements)),
        )
