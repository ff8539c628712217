# SPDX-License-Identifier: BSD-2-Clause
"""Cost model of the prefill panel: cycles and HBM bytes, from the program alone."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.utils import ceil_log2

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import Modes, Queue, StoreOp, Target, VectorOp
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.array.commands import PrefillProgram, field_of

from .panel_parts import Fetch, Hbm, Loads, Stores, Sums, load_work, matrix_tiles

__all__ = ["PrefillCost", "prefill_cost"]

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
_READ_SUMS = (
    VectorOp.REQUANTIZE,
    VectorOp.ROTATE,
    VectorOp.ADD,
    VectorOp.GATE,
    VectorOp.VALUES,
    VectorOp.TOP,
    VectorOp.EXPONENTIAL,
    VectorOp.ARGMAX,
)
"""Operations that read the accumulators, in the first phase of a tile at least."""
_ORDER = (Queue.LOAD, Queue.STORE, Queue.MATRIX)
"""Queues in the order in which they go on, the vector unit's behind them."""
_MODES = Modes()
_QUEUED = 8
"""Commands that wait in a queue: behind more no command of any queue is unpacked."""


@dataclass(frozen=True)
class PrefillCost:
    """Predicted cost of a prefill.

    ``bound_cycles``: the array alone, each tile for as long as its rows or its weights take,
    ``R + sum(max(rows, R)) + R + C`` (design of an array with shadow weights), or the HBM bytes
    at full bandwidth if that is more. ``predicted_cycles``: the program run by engines that take
    what their contracts say, that share the HBM's read channel, and of which the array comes first
    at the accumulators. It leaves out conflicts in the other memories, HBM bandwidth that stores
    take from loads, and a link that does not keep up.
    """

    bound_cycles: int
    predicted_cycles: int
    predicted_hbm_read: int
    predicted_hbm_write: int


def _row_tiles(op: VectorOp, fields: Mapping[str, int], lanes: int, line: int) -> Iterator[int]:
    """Yield the tiles of each row of a VECTOR command."""
    rows, tiles = fields["extent"] & 0xFFFF, fields["extent"] >> 16
    if op not in (VectorOp.TOP, VectorOp.EXPONENTIAL):
        yield from [tiles + (op is VectorOp.NORM)] * rows
        return
    step = lanes if op is VectorOp.TOP else line
    first = (fields["first"] & 0xFFFF) + 1
    for row in range(rows):
        yield min(tiles, -(-(first + row) // step) * step // lanes)


def _sums_read(
    op: VectorOp, fields: Mapping[str, int], lanes: int, line: int, sums: Sums
) -> Iterator[int | None]:
    """Yield for each beat of a VECTOR command in which half of the accumulators it reads, or None."""
    reads = op in _READ_SUMS
    second = fields.get("extra", 0) & 0xFFFF
    first = (fields.get("first", 0) & 0xFFFF) + 1
    for row, tiles in enumerate(_row_tiles(op, fields, lanes, line)):
        for tile in range(tiles):
            masked = op is VectorOp.EXPONENTIAL and tile * lanes >= first + row
            at = tile * fields.get("sums_n", 0) + row
            yield sums.half_of(fields["sums"] + at) if reads and not masked else None
            if op is VectorOp.GATE:
                yield sums.half_of(second + at)
            elif op in _PHASES:
                yield None


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
    run = _Panel(program, (rows, columns), latency, bytes_per_cycle, weight_rows)
    spans = run.spans()
    if trace is not None:
        trace += spans
    return PrefillCost(
        bound_cycles=max(2 * rows + columns + run.bound, run.beats * BEAT_BYTES // bytes_per_cycle),
        predicted_cycles=max(done for _, done in spans),
        predicted_hbm_read=run.beats * BEAT_BYTES,
        predicted_hbm_write=run.written * BEAT_BYTES,
    )


class _Panel:
    """Runs a program by what the contracts of the engines say.

    Commands of a queue run in order. Of several queues the one whose next command waits for
    nothing goes on, the vector unit last: by then all is known that may be in its way.
    """

    def __init__(
        self,
        program: PrefillProgram,
        array: tuple[int, int],
        latency: int,
        bytes_per_cycle: int,
        weight_rows: int,
    ) -> None:
        self._commands = program.commands.commands
        self._sizes = program.commands.encoded_sizes()
        self._array, self._line = array, max(array)
        self._bytes_per_cycle, self._weight_rows = bytes_per_cycle, weight_rows
        hbm = Hbm(latency, bytes_per_cycle)
        self._fetch = Fetch(hbm, sum(words for words, _ in self._sizes))
        self._loads, self._stores = Loads(hbm), Stores(latency)
        # From the entry of a row to the cycle in which its sums are added.
        delay = sum(array) + 2
        self._sums = Sums(panel_sizes(*array).accumulators, delay)
        self._free: dict[Queue, int] = defaultdict(int)
        self._starts: dict[Queue, list[int]] = defaultdict(list)
        self._waiting: dict[Queue, deque[tuple[int, int]]] = {q: deque() for q in Queue}
        self._number = 0
        self._number_of = dict.fromkeys(Queue, 0)
        self._signals: dict[int, deque[int]] = defaultdict(deque)
        self._dispatched = self._array_free = self._last_swap = 0
        self.bound = self.written = 0
        self.beats = 0

    def spans(self) -> list[tuple[int, int]]:
        """Return when each command starts, and when it is done."""
        found = [(0, 0)] * len(self._commands)
        for _ in found:
            queue = self._next()
            which, dispatched = self._waiting[queue].popleft()
            found[which] = self._run(self._commands[which], dispatched)
        self.beats += self._fetch.beats
        return found

    def _next(self) -> Queue:
        """Return the queue whose command runs next, and unpack commands until there is one."""
        while True:
            for queue in _ORDER:
                if self._may_start(queue):
                    return queue
            if not self._dispatch():
                return Queue.VECTOR

    def _dispatch(self) -> bool:
        """Unpack a command into its queue, if it need not wait for one that has not started."""
        if self._number == len(self._commands):
            return False
        queue = self._commands[self._number].queue
        behind = self._number_of[queue] - _QUEUED
        if behind >= len(self._starts[queue]):
            return False
        words, unpack = self._sizes[self._number]
        self._dispatched = self._fetch.unpack(self._dispatched, words) + unpack - words
        if behind >= 0:
            self._dispatched = max(self._dispatched, self._starts[queue][behind] + 1)
        self._waiting[queue].append((self._number, self._dispatched))
        self._number_of[queue] += 1
        self._number += 1
        return True

    def _may_start(self, queue: Queue) -> bool:
        """Tell whether a queue has a command, and all that it waits for is known."""
        if not self._waiting[queue]:
            return False
        wait = self._commands[self._waiting[queue][0][0]].wait
        return all(self._signals[bit] for bit in range(16) if wait >> bit & 1)

    def _run(self, command: Any, dispatched: int) -> tuple[int, int]:
        """Run a command; return when it starts and when it is done."""
        start = max(dispatched, self._free[command.queue])
        for bit in range(16):
            if command.wait >> bit & 1:
                start = max(start, self._signals[bit].popleft())
        start += 1
        self._starts[command.queue].append(start)
        engine = {
            Queue.MATRIX: self._multiply,
            Queue.VECTOR: self._compute,
            Queue.LOAD: self._load,
            Queue.STORE: self._store,
        }[command.queue]
        done, self._free[command.queue] = engine(command.op, command.fields, start)
        for bit in range(16):
            if command.signal >> bit & 1:
                self._signals[bit].append(done)
        return start, done

    # Each returns when a command is done, and when its engine takes the next one.

    def _multiply(self, _op: int, fields: Mapping[str, int], start: int) -> tuple[int, int]:
        rows, columns = self._array
        tiles = list(matrix_tiles(fields, rows, columns))
        modes = field_of(_MODES, fields["modes"])
        load = columns if modes["transposed"] else rows
        if modes["packed"]:
            load //= self._weight_rows
        # Weights load behind the last tile of the command before.
        enters = max(start + load, self._last_swap + load, self._array_free)
        for tile in tiles:
            period = max(tile.rows, load)
            self._sums.add(enters, tile, period)
            enters += tile.repeat * period
            self._last_swap = enters - period
            self.bound += tile.repeat * period
        self._array_free = self._last_swap + tiles[-1].rows
        # Where weights, or a side of the array, take 4 cycles one more is lost.
        done = self._array_free + rows + columns + 3 + (min(load, rows, columns) == 4)
        return done, self._last_swap - 1

    def _compute(self, number: int, fields: Mapping[str, int], start: int) -> tuple[int, int]:
        op, lanes = VectorOp(number), self._array[1]
        beats = sum(_row_tiles(op, fields, lanes, self._line)) * _PHASES.get(op, 1)
        drains = _DRAINS.get(op) or _REDUCED_DRAINS[op] + ceil_log2(lanes)
        done = drains + self._sums.read(
            start + _STARTS,
            beats,
            lambda: _sums_read(op, fields, lanes, self._line, self._sums),
        )
        return done, done

    def _load(self, op: int, fields: Mapping[str, int], start: int) -> tuple[int, int]:
        work = load_work(Target(op), fields, self._array[1])
        self.beats += work.beats
        return self._loads.run(start, work)

    def _store(self, number: int, fields: Mapping[str, int], start: int) -> tuple[int, int]:
        op = StoreOp(number)
        if op in (StoreOp.HBM, StoreOp.SUMS, StoreOp.BIASED_SUMS):
            moving = _written(op, fields, self._line, self._array[1], self._bytes_per_cycle)
            self.written += fields["rows"] * -(-fields["bytes"] // BEAT_BYTES)
            return self._stores.run(start, moving)
        done = start + _store_cycles(op, fields, self._line)
        return done, done


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
