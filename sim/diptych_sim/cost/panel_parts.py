# SPDX-License-Identifier: BSD-2-Clause
"""What the parts of the prefill panel take, one by one: the array's sums, HBM, loads, stores, the program."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import ceil
from typing import NamedTuple

from diptych.memory.axi import BEAT_BYTES, MAX_BEATS
from diptych.systolic.isa import Causal, Modes, Start, Target
from diptych_sim.compiler.array.commands import field_of

__all__ = [
    "Fetch",
    "Hbm",
    "LoadWork",
    "Loads",
    "MatrixTile",
    "Stores",
    "Sums",
    "load_work",
    "matrix_tiles",
]

_MODES = Modes()
_BEAT_WORDS = BEAT_BYTES // 4
_AHEAD = 8
"""Beats of the program that are fetched ahead."""
_LOADS_AHEAD = 8
"""Loads that the engine has taken and not done."""
_BURSTS = 16
"""Bursts that the HBM has accepted and not read."""
_BUFFERED = 5
"""Beats that are read before somebody takes them."""
_DENSE = (Target.DENSE, Target.DENSE_WIDE)
_LINES = (Target.SCRATCHPAD, Target.GATHER, *_DENSE)
"""Targets that are lines of the scratchpad."""


class MatrixTile(NamedTuple):
    """Tiles of weights of a MATRIX command that are alike: what passes each, where its sums go."""

    rows: int
    counted: int
    """Weight rows that count."""
    entry: int
    """Of the accumulators, for the first row."""
    adds: bool
    """To what is there."""
    repeat: int = 1
    """How many follow each other."""


def matrix_tiles(fields: Mapping[str, int], rows: int, columns: int) -> Iterator[MatrixTile]:
    """Tiles of weights of a MATRIX command that rows pass, in order."""
    modes = field_of(_MODES, fields["modes"])
    k, n = fields["tiles"] & 0xFFFF, fields["tiles"] >> 16
    count, first = fields["rows"] & 0xFFFF, fields.get("first", 0) & 0xFFFF
    causal = Causal(modes["causal"])
    lanes = min(modes["end_row"], rows) - modes["first_row"]
    # Weight rows of each product, and whether its first tile adds.
    products = [(lanes, modes["start"] != Start.OVERWRITE.value)]
    if modes["planes"]:
        products = [(lanes, False), (lanes, True), (lanes, True)]
        if modes["start"] == Start.ADD.value:
            products = [(lanes, False), (2 * lanes, True)]
    of_n, of_k = columns * (causal is Causal.BY_N), rows * (causal is Causal.BY_K)
    for j in range(n):
        for counted, adds in products:
            # But for those of a causal product by K, all are alike, if the first one adds.
            runs = (
                [(i, 1) for i in range(k)] if of_k else [(0, k)] if adds else [(0, 1), (1, k - 1)]
            )
            for i, repeat in runs:
                skipped = max(0, j * of_n + i * of_k - first)
                if repeat and count > skipped:
                    entry = fields["sums"] + j * fields.get("sums_n", 0) + skipped
                    yield MatrixTile(count - skipped, counted, entry, adds or i > 0, repeat)


class Sums:
    """The accumulators: while the array adds to entries of a half, nobody else reads there."""

    def __init__(self, entries: int, delay: int) -> None:
        self._half = entries // 2
        self._delay = delay
        self._busy: list[tuple[int, int, int]] = []
        """From when until when which half is taken, in order of time."""
        self._past = 0

    def half_of(self, entry: int) -> int:
        """Return which half an entry is in."""
        return entry // self._half % 2

    def add(self, enters: int, tile: MatrixTile, period: int) -> None:
        """Add the sums of rows that enter the array, one a cycle; tiles begin ``period`` cycles apart."""
        if not tile.adds:
            return
        begins = enters + self._delay
        left = self._half - tile.entry % self._half
        if tile.rows == period and tile.rows <= left:  # without a gap, all in one half
            self._take(begins, begins + tile.repeat * period, tile.entry)
            return
        for n in range(tile.repeat):
            begins = enters + n * period + self._delay
            self._take(begins, begins + min(left, tile.rows), tile.entry)
            if tile.rows > left:
                self._take(begins + left, begins + tile.rows, tile.entry + left)

    def _take(self, begins: int, ends: int, entry: int) -> None:
        half = self.half_of(entry)
        if self._busy and self._busy[-1][1:] == (begins, half):
            begins = self._busy.pop()[0]
        self._busy.append((begins, ends, half))

    def read(self, now: int, beats: int, halves: Callable[[], Iterator[int | None]]) -> int:
        """Return when beats are through that begin now, one a cycle.

        ``halves`` yields for each where it reads; None if it reads no sums.
        """
        busy, at = self._busy, self._past
        while at < len(busy) and busy[at][1] <= now:
            at += 1
        self._past = at
        if at == len(busy) or busy[at][0] >= now + beats:
            return now + beats
        for half in halves():
            while at < len(busy) and busy[at][1] <= now:
                at += 1
            while at < len(busy) and busy[at][0] <= now and busy[at][2] == half:
                now = busy[at][1]
                at += 1
            now += 1
        return now


class LoadWork(NamedTuple):
    """What a LOAD command reads and writes."""

    bursts: list[int]
    """Beats of each burst; those of a gather's token numbers not counted."""
    writing: int
    """Cycles of writes, where beats come as fast as they can be written."""
    picking: int
    """Cycles of a pick from the table."""
    lines: bool
    """To lines of the scratchpad."""
    gathers: bool
    """Rows by token numbers, which come first."""
    row_bursts: int
    """Bursts of a row: one comes two cycles behind the one before, that of another row one."""

    @property
    def beats(self) -> int:
        """Beats that are read."""
        return sum(self.bursts) + self.gathers


def load_work(op: Target, fields: Mapping[str, int], lanes: int) -> LoadWork:
    """Return what a LOAD command reads and writes."""
    rows, size = fields["rows"], fields["bytes"]
    if op is Target.PICK_DYNAMIC:
        return LoadWork([1], 0, 2 * rows, lines=False, gathers=False, row_bursts=1)
    read = -(-size // BEAT_BYTES)
    if op in _DENSE:
        skip, rows = fields["hbm"] % BEAT_BYTES, rows if fields["total"] else 1
        row = bursts = _bursts(-(-(skip + (fields["total"] or size)) // BEAT_BYTES))
    else:
        row = _bursts(read)
        bursts = row * rows
    if op in _LINES:
        target, pitch = fields.get("target", 0), fields.get("target_pitch", 0)
        # Two bytes an element: a block is written in halves.
        each = 2 if op is Target.DENSE_WIDE else 1
        starts = [each * (target + row * pitch) % BEAT_BYTES for row in range(rows)]
        drops = op not in _DENSE
        writing = sum(_piece(size, start, waits=drops) for start in starts[:-1])
        writing += _piece(size, starts[-1], waits=False)
    else:
        entry = {
            Target.VECTOR: 2 * lanes,
            Target.PARAMETERS: 4 * lanes,
            Target.BIASES: 4 * lanes,
        }.get(op, 4)
        writing = -(-size // entry) * rows
    gathers = op in (Target.GATHER, Target.GATHER_DYNAMIC)
    lines = op in _LINES
    return LoadWork(bursts, writing, 0, lines=lines, gathers=gathers, row_bursts=len(row))


def _bursts(beats: int) -> list[int]:
    full, rest = divmod(beats, MAX_BEATS)
    return [MAX_BEATS] * full + [rest] * (rest > 0)


@cache
def _piece(size: int, offset: int, *, waits: bool) -> int:
    """Return the cycles that a piece takes that begins at an offset in a block of 64 bytes.

    Each block that it touches takes one. Where the last takes its bytes from two beats, the rest of
    the second is dropped, and the next piece ``waits`` a cycle for its own.
    """
    blocks = -(-(offset + size) // BEAT_BYTES)
    if blocks == 1:
        return 1
    last = offset + size - (blocks - 1) * BEAT_BYTES
    return blocks + (waits and (size - last) % BEAT_BYTES + last > BEAT_BYTES)


class Hbm:
    """The read channel of the HBM: bursts in the order of their addresses, 16 accepted ahead."""

    def __init__(self, latency: int, bytes_per_cycle: int) -> None:
        self.latency = latency
        self.beat_cycles = BEAT_BYTES / bytes_per_cycle
        self._accepted: list[int] = []
        self._served: list[float] = []
        self._program: list[int] = []
        """When beats of the program come."""

    def accept(self, asks: int) -> int:
        """Return when a burst is accepted that is there from a cycle on."""
        if len(self._served) < _BURSTS:
            return asks
        return max(asks, ceil(self._served[-_BURSTS]) - 2)

    def serve(self, accepted: int, beats: int, cycles: float, taken: float) -> float:
        """Return when a burst has been taken by one who takes each beat in ``cycles``, from ``taken`` on."""
        came = accepted + self.latency + 2
        begins = max(came, self._served[-1] if self._served else 0)
        read = begins + beats * self.beat_cycles
        between = bisect_left(self._program, read) - bisect_right(self._program, came)
        read += between * self.beat_cycles
        taken = max(max(taken, came) + beats * cycles, read)
        self._accepted.append(accepted)
        self._served.append(max(read, taken - _BUFFERED))
        return taken

    def accept_program(self, asked: int) -> int:
        """Return when a beat of the program is accepted that is asked for then."""
        before = bisect_left(self._accepted, asked)
        if before < _BURSTS:
            return asked
        return max(asked, ceil(self._served[before - _BURSTS]) - 2)

    def program_beat(self, accepted: int) -> int:
        """Return when a beat of the program comes: behind bursts that were accepted before."""
        behind = bisect_left(self._accepted, accepted)
        came = accepted + self.latency
        if behind:
            came = max(came, ceil(self._served[behind - 1]))
        self._program.append(came)
        return came + 2


class Fetch:
    """Words of the program: 8 beats are asked for ahead, a word is unpacked a cycle.

    A program tells its length, so none behind it are.

    Attributes
    ----------
    beats : int
        Beats of the program.
    """

    def __init__(self, hbm: Hbm, words: int) -> None:
        self._hbm = hbm
        self.beats = -(-words // _BEAT_WORDS)
        self._words = 0
        self._came = 0
        self._accepted = 1
        self._asked = 0
        self._taken: list[int] = []

    def _ask(self) -> int:
        """Return from when on the next beat is asked for."""
        at = self._taken[self._asked - _AHEAD] if self._asked >= _AHEAD else 0
        return max(at, self._accepted + 1)

    def unpack(self, now: int, words: int) -> int:
        """Return when a command is unpacked."""
        for _ in range(words):
            if self._words % _BEAT_WORDS == 0:
                self._accepted = self._hbm.accept_program(self._ask())
                self._asked += 1
                self._came = self._hbm.program_beat(self._accepted)
            now = max(now + 1, self._came)
            self._words += 1
            if self._words % _BEAT_WORDS == 0:
                self._taken.append(now)
        return now + 2


class Loads:
    """Loads: bursts of the next commands are asked for while the beats of one still come."""

    def __init__(self, hbm: Hbm) -> None:
        self._hbm = hbm
        self._ask_free = 0
        self._free: float = 0
        self._done = [0] * _LOADS_AHEAD

    def run(self, start: int, work: LoadWork) -> tuple[int, int]:
        """Return when a load is done, and when the engine takes the next one."""
        asks = max(start, self._ask_free)
        now = self._free
        if work.gathers:
            # Token numbers are taken when the load before is done; rows are asked for then.
            now = self._hbm.serve(self._hbm.accept(asks), 1, 0, now)
            asks = ceil(now) + 3
        cycles = work.writing / sum(work.bursts)
        for number, beats in enumerate(work.bursts, 1):
            asks = self._hbm.accept(asks)
            now = self._hbm.serve(asks, beats, cycles, now)
            asks += 1 if number % work.row_bursts == 0 else 2
        self._ask_free = asks
        # Writes to lines go through two registers more.
        self._free = now + work.picking + (3 if work.lines else 1)
        done = ceil(self._free) + 1
        self._done.append(done)
        return done, max(self._ask_free, self._done[-1 - _LOADS_AHEAD])


class Stores:
    """Stores to HBM: a command does not wait for the responses to the one before."""

    def __init__(self, latency: int) -> None:
        self._latency = latency
        self._free = 0

    def run(self, start: int, moving: int) -> tuple[int, int]:
        """Return when a store is done, and when the engine takes the next one."""
        self._free = max(start, self._free) + moving
        return self._free + self._latency + 8, self._free
