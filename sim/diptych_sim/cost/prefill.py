# SPDX-License-Identifier: BSD-2-Clause
"""Cost model of the prefill panel: cycles and HBM bytes, from the program alone."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES, MAX_BEATS
from diptych.systolic.isa import Causal, Modes, Queue, Start, StoreOp, Target, VectorOp
from diptych_sim.compiler.array.commands import PrefillProgram, field_of

__all__ = ["PrefillCost", "load_work", "matrix_tiles", "prefill_cost"]

_STARTS = 1
"""Cycles between a VECTOR command and its first beat, as of :class:`.VectorUnit`."""
_DRAINS = {
    VectorOp.REQUANTIZE: 7,
    VectorOp.QUANTIZE: 7,
    VectorOp.ROTATE: 10,
    VectorOp.ROTATE_AGAIN: 10,
}
"""Cycles from a VECTOR command's last beat to its end, as of :class:`.VectorUnit`."""
_REDUCED_DRAINS = {
    VectorOp.TOP: 5,
    VectorOp.ADD: 14,
    VectorOp.EMBED: 14,
    VectorOp.VALUES: 14,
    VectorOp.NORM: 14,
    VectorOp.ARGMAX: 8,
    VectorOp.GATE: 20,
    VectorOp.EXPONENTIAL: 16,
}
"""The same without the levels of the reduction over the lanes."""
_PHASES = {VectorOp.ROTATE: 2, VectorOp.ROTATE_AGAIN: 2, VectorOp.GATE: 2}
_MODES = Modes()
_BEAT_WORDS = BEAT_BYTES // 4
_AHEAD = 8
"""Beats of the program that are fetched ahead."""
_LOADS_AHEAD = 8
"""Loads that the engine has taken and not done."""
_QUEUED = 8
"""Commands that wait in a queue: behind more no command of any queue is unpacked."""


@dataclass(frozen=True)
class PrefillCost:
    """Predicted cost of a prefill.

    ``bound_cycles``: the array alone, each tile for as long as its rows or its weights take,
    ``R + sum(max(rows, R)) + R + C`` (design of an array with shadow weights), or the HBM bytes
    at full bandwidth if that is more. ``predicted_cycles``: the program run by engines that take
    what their contracts say. It leaves out conflicts in memories, beats of HBM that commands and
    loads take from each other, and a link that does not keep up.
    """

    bound_cycles: int
    predicted_cycles: int
    predicted_hbm_read: int
    predicted_hbm_write: int


def matrix_tiles(fields: Mapping[str, int], rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Rows that each tile of weights of a MATRIX command sees, and weight rows that count in it."""
    modes = field_of(_MODES, fields["modes"])
    k, n = fields["tiles"] & 0xFFFF, fields["tiles"] >> 16
    count, first = fields["rows"] & 0xFFFF, fields.get("first", 0) & 0xFFFF
    causal = Causal(modes["causal"])
    lanes = min(modes["end_row"], rows) - modes["first_row"]
    products = [lanes] * (3 if modes["planes"] else 1)
    if modes["planes"] and modes["start"] == Start.ADD.value:
        products = [lanes, 2 * lanes]
    for j in range(n):
        for counted in products:
            for i in range(k):
                position = {Causal.NO: 0, Causal.BY_N: j * columns, Causal.BY_K: i * rows}[causal]
                left = count - max(0, position - first)
                if left > 0:
                    yield left, counted


def _vector_beats(op: VectorOp, fields: Mapping[str, int], lanes: int, line: int) -> int:
    rows, tiles = fields["extent"] & 0xFFFF, fields["extent"] >> 16
    if op is VectorOp.NORM:
        tiles += 1
    elif op in (VectorOp.TOP, VectorOp.EXPONENTIAL):
        step = lanes if op is VectorOp.TOP else line
        first = fields["first"] & 0xFFFF
        ends = (first + row + 1 for row in range(rows))
        return sum(min(tiles, -(-end // step) * step // lanes) for end in ends)
    return rows * tiles * _PHASES.get(op, 1)


def load_work(op: Target, fields: Mapping[str, int], line: int, lanes: int) -> tuple[int, int]:
    """Return cycles of writing and beats read."""
    rows, size = fields["rows"], fields["bytes"]
    if op is Target.DENSE:
        beats = -(-(fields["hbm"] % BEAT_BYTES + (fields["total"] or size)) // BEAT_BYTES)
        return beats + rows if size % BEAT_BYTES else beats, beats
    beats = -(-size // BEAT_BYTES) * rows
    if op is Target.PICK_DYNAMIC:
        return 2 * rows, 1
    entry = {Target.VECTOR: 2 * lanes}.get(op, 4)
    if op in (Target.PARAMETERS, Target.BIASES):
        entry = 4 * lanes
    if op in (Target.SCRATCHPAD, Target.GATHER):
        entry = BEAT_BYTES
    gathers = op in (Target.GATHER, Target.GATHER_DYNAMIC)
    return max(beats, -(-size // entry) * rows), beats + gathers


class _Fetch:
    """Words of the program: 8 beats are asked for ahead, a word is unpacked a cycle."""

    def __init__(self, latency: int) -> None:
        self._latency = latency
        self._words = 0
        self._taken: list[int] = []

    def unpack(self, now: int, words: int) -> int:
        """Return when a command is unpacked."""
        for _ in range(words):
            beat = self._words // _BEAT_WORDS
            asked = self._taken[beat - _AHEAD] if beat >= _AHEAD else 2 + beat
            now = max(now + 1, asked + self._latency + 2)
            self._words += 1
            if self._words % _BEAT_WORDS == 0:
                self._taken.append(now)
        return now + 2


class _Loads:
    """Loads: bursts of the next commands are asked for while the beats of one still come."""

    def __init__(self, latency: int) -> None:
        self._latency = latency
        self._ask_free = self._beats_free = 0
        self._done = [0] * _LOADS_AHEAD

    def run(self, start: int, beats: int, moving: int, *, gathers: bool) -> tuple[int, int]:
        """Return when a load is done, and when the engine takes the next one."""
        asks = max(start, self._ask_free)
        came = asks + self._latency + 5
        if gathers:  # token numbers come first
            asks, came = came, came + self._latency + 7
        self._ask_free = asks + -(-beats // MAX_BEATS)
        self._beats_free = max(came, self._beats_free) + moving + 1
        done = self._beats_free + 1
        self._done.append(done)
        return done, max(self._ask_free, self._done[-1 - _LOADS_AHEAD])


class _Stores:
    """Stores to HBM: a command does not wait for the responses to the one before."""

    def __init__(self, latency: int) -> None:
        self._latency = latency
        self._free = 0

    def run(self, start: int, moving: int) -> tuple[int, int]:
        """Return when a store is done, and when the engine takes the next one."""
        self._free = max(start, self._free) + moving
        return self._free + self._latency + 8, self._free


def prefill_cost(
    program: PrefillProgram,
    *,
    rows: int,
    columns: int,
    latency: int,
    bytes_per_cycle: int,
    weight_rows: int = 1,
    trace: list[tuple[int, int]] | None = None,
) -> PrefillCost:
    """Return what a program should take on an array of ``rows`` x ``columns``."""
    line = max(rows, columns)
    free: dict[Queue, int] = defaultdict(int)
    starts: dict[Queue, list[int]] = defaultdict(list)
    signals: dict[int, deque[int]] = defaultdict(deque)
    array_free = last_swap = bound = beats = written = 0
    words_at = _Fetch(latency)
    loads, stores = _Loads(latency), _Stores(latency)
    dispatched = 0
    end = 0
    sizes = program.commands.encoded_sizes()
    for command, (words, unpack) in zip(program.commands.commands, sizes, strict=True):
        dispatched = words_at.unpack(dispatched, words) + unpack - words
        before = starts[command.queue]
        if len(before) >= _QUEUED:
            dispatched = max(dispatched, before[-_QUEUED] + 1)
        fields = command.fields
        start = max(dispatched, free[command.queue])
        for bit in range(16):
            if command.wait >> bit & 1:
                start = max(start, signals[bit].popleft())
        start += 1
        before.append(start)
        if command.queue is Queue.MATRIX:
            tiles = [count for count, _ in matrix_tiles(fields, rows, columns)]
            modes = field_of(_MODES, fields["modes"])
            load = columns if modes["transposed"] else rows
            if modes["packed"]:
                load //= weight_rows
            spans = [max(tile, load) for tile in tiles[:-1]] + [tiles[-1]]
            # Weights load behind the last tile of the command before.
            begins = max(start + load, last_swap + load, array_free)
            array_free = begins + sum(spans)
            last_swap = array_free - tiles[-1]
            free[command.queue] = last_swap - 1
            # Where weights, or a side of the array, take 4 cycles one more is lost.
            done = array_free + rows + columns + 3 + (min(load, rows, columns) == 4)
            bound += sum(max(tile, load) for tile in tiles)
        elif command.queue is Queue.VECTOR:
            op = VectorOp(command.op)
            drains = _DRAINS.get(op) or _REDUCED_DRAINS[op] + ceil_log2(columns)
            done = start + _STARTS + _vector_beats(op, fields, columns, line) + drains
            free[command.queue] = done
        elif command.queue is Queue.LOAD:
            target = Target(command.op)
            entries, read = load_work(target, fields, line, columns)
            beats += read
            gathers = target in (Target.GATHER, Target.GATHER_DYNAMIC)
            moving = max(entries, -(-read * BEAT_BYTES // bytes_per_cycle))
            done, free[command.queue] = loads.run(start, read, moving, gathers=gathers)
        else:
            op = StoreOp(command.op)
            if op in (StoreOp.HBM, StoreOp.SUMS, StoreOp.BIASED_SUMS):
                moving = _written(op, fields, line, columns, bytes_per_cycle)
                done, free[command.queue] = stores.run(start, moving)
                written += fields["rows"] * -(-fields["bytes"] // BEAT_BYTES)
            else:
                done = start + _store_cycles(op, fields, line)
                free[command.queue] = done
        for bit in range(16):
            if command.signal >> bit & 1:
                signals[bit].append(done)
        if trace is not None:
            trace.append((start, done))
        end = max(end, done)
    beats += _program_beats(sum(words for words, _ in sizes))
    return PrefillCost(
        bound_cycles=max(2 * rows + columns + bound, beats * BEAT_BYTES // bytes_per_cycle),
        predicted_cycles=end,
        predicted_hbm_read=beats * BEAT_BYTES,
        predicted_hbm_write=written * BEAT_BYTES,
    )


def _program_beats(words: int) -> int:
    """Return the beats that are read of a program: of a long one those that were asked for ahead, too."""
    beats = -(-words // _BEAT_WORDS)
    if beats < BEAT_BYTES:  # its length is known
        return beats
    return beats + _AHEAD - (words % _BEAT_WORDS != 0)


def _written(
    op: StoreOp, fields: Mapping[str, Any], line: int, lanes: int, bytes_per_cycle: int
) -> int:
    """Return cycles of the reads and beats of a store to HBM."""
    unit = min(BEAT_BYTES, line if op is StoreOp.HBM else 4 * lanes)
    beats = -(-fields["bytes"] // BEAT_BYTES)
    cycles = max(-(-fields["bytes"] // unit), beats * BEAT_BYTES / bytes_per_cycle)
    return math.ceil(fields["rows"] * cycles)


def _store_cycles(op: StoreOp, fields: Mapping[str, Any], line: int) -> int:
    if op is StoreOp.TOKEN:
        return 3
    planes = 2 if op is StoreOp.KEYS else 1
    words, lines = fields["bytes"] // 4, -(-fields["bytes"] // line)
    return fields["rows"] * planes * (words + 2 * lines) + 2
