# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the matrix engine's causes and products, from its commands and ports."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.systolic.isa import MATRIX, Causal, Modes, Start
from diptych.systolic.matrix import MATRIX_CAUSES, WAITED
from diptych_sim.host.fields import Fields

from .ports import CommandPorts
from .stretch import MOVES, Judged, Seen, StretchObserver

__all__ = ["MatrixObserver", "TileOfWeights", "tiles_of"]

_FETCH = 2
"""Cycles from the read of a line of weights to its first chance to enter the array."""
_MODES = Fields(Modes())


@dataclass(frozen=True)
class TileOfWeights:
    """What a tile of a command needs.

    Attributes
    ----------
    rows : int
        Rows of activations that pass it.
    lines : int
        Lines in which its weights are loaded.
    macs : int
        Useful products of a row.
    """

    rows: int
    lines: int
    macs: int


def tiles_of(
    command: dict[str, Any], *, rows: int, columns: int, weight_rows: int
) -> Iterator[TileOfWeights]:
    """Return the tiles of weights of a MATRIX command that are not left out, in order.

    Parameters
    ----------
    command : dict
        Its fields, as :data:`~diptych.systolic.isa.MATRIX` has them.
    rows, columns, weight_rows : int
        Parameters of the engine.
    """
    modes = _MODES.unpack(command["modes"])
    row_tiles, column_tiles = command["tiles"] & 0xFFFF, command["tiles"] >> 16
    sums, first = command["rows"] & 0xFFFF, command["first"] & 0xFFFF
    valid = min(modes["end_row"], rows) - modes["first_row"]
    lines = columns if modes["transposed"] else rows
    if modes["packed"]:
        lines = rows // weight_rows
    products = [valid]
    if modes["planes"]:
        products = [valid, 2 * valid] if modes["start"] == Start.ADD.value else [valid] * 3
    for j in range(column_tiles):
        last = j == column_tiles - 1
        width = (modes["end_column"] if last else 0) or columns
        for height in products:
            for k in range(row_tiles):
                begin = {Causal.BY_N: j * columns, Causal.BY_K: k * rows}
                skipped = max(0, begin.get(Causal(modes["causal"]), 0) - first)
                if skipped < sums:
                    yield TileOfWeights(sums - skipped, lines, height * width)


class _Entered(NamedTuple):
    """What enters the array in some cycles: rows, lines of weights, and how it is between them."""

    shifts: NDArray[np.bool_]
    loaded: NDArray[np.bool_]
    """Whether the weights of the next tile are there, when a cycle begins."""
    between: NDArray[np.bool_]
    """Whether the tile before has all of its rows, when a cycle begins."""
    macs: NDArray[np.int64]


class _Tiles:
    """Follows the tiles of weights: each is loaded as soon as the one before has begun."""

    def __init__(self) -> None:
        self.to_load: deque[TileOfWeights] = deque()
        self.to_pass: deque[TileOfWeights] = deque()
        self._arrived = np.zeros(0, np.int64)
        """When lines of weights came that have not entered."""
        self._free = 0
        """The first cycle in which a line may enter."""
        self._lines_left = self._rows_left = self._macs = 0
        self._loaded = False

    def follow(
        self, first: int, end: int, rows: NDArray[np.int64], lines: NDArray[np.int64]
    ) -> _Entered:
        """Follow them through cycles in some of which rows enter, and lines come."""
        size = end - first
        shifts, loaded, between = np.zeros(size, bool), np.zeros(size, bool), np.ones(size, bool)
        macs = np.zeros(size, np.int64)
        self._arrived = np.append(self._arrived, lines)
        began, at = first, 0
        if self._rows_left:
            between[:] = False
        while True:
            passed = rows[at : at + self._rows_left]
            macs[passed - first] = self._macs
            at += len(passed)
            self._rows_left -= len(passed)
            if len(passed) and not self._rows_left:
                between[passed[-1] + 1 - first :] = True
            if not self._loaded:
                shifts[self._load(end) - first] = True
                began = self._free
            if at == len(rows):
                break
            row = int(rows[at])
            is_loaded = self._loaded and began <= row
            assert is_loaded, "a row entered before the weights of its tile"
            loaded[began - first : row + 1 - first] = True
            between[row + 1 - first :] = False
            tile = self.to_pass.popleft()
            self._rows_left, self._macs = tile.rows, tile.macs
            self._loaded, self._free = False, max(self._free, row)
        if self._loaded:
            loaded[max(began - first, 0) :] = True
        return _Entered(shifts, loaded, between, macs)

    def _load(self, end: int) -> NDArray[np.int64]:
        """Return when lines of the next tile enter, of those that come and enter before ``end``."""
        if not len(self._arrived) or self._free >= end:
            return self._arrived[:0]
        self._lines_left = self._lines_left or self.to_load.popleft().lines
        lines = self._arrived[: self._lines_left]
        number = np.arange(len(lines))
        enters = np.maximum(lines - number, self._free) + number  # one comes, and enters, a cycle
        enters = enters[enters < end]
        if len(enters):
            self._arrived = self._arrived[len(enters) :]
            self._lines_left -= len(enters)
            self._free = int(enters[-1]) + 1
            self._loaded = not self._lines_left
        return enters


class MatrixObserver(StretchObserver):
    """Finds when rows entered the array by when their sums left it, and follows the weights.

    A row's sums leave rows + columns cycles after it entered, so the cause of a cycle is known that
    much later. A line of weights enters as soon as it has come and the tile before has begun; that
    tile is known from the commands, as are the products of a row.

    Parameters
    ----------
    dut : handle
        The engine, with its counters public.
    clk : handle
        Its clock.
    commands : CommandPorts
        Where its commands are seen.
    rows, columns, weight_rows : int
        Its parameters.
    limit : int, optional
        As of :class:`.CauseObserver`.
    """

    causes = MATRIX_CAUSES

    def __init__(
        self,
        dut: Any,
        clk: Any,
        commands: CommandPorts,
        *,
        rows: int,
        columns: int,
        weight_rows: int,
        limit: int | None = None,
    ) -> None:
        self._delay = rows + columns
        super().__init__(
            clk,
            {name: dut[f"count_{name}"] for name in (*MATRIX_CAUSES, "macs")},
            {
                "lines": (dut["w__en"], dut["w__ready"]),
                "sums": dut["sums__en"],
                "done": commands.done,
                "waits": dut["waits"],
            },
            commands,
            MATRIX,
            late=self._delay + 1,
            name="the matrix engine",
            limit=limit,
        )
        self._sizes = {"rows": rows, "columns": columns, "weight_rows": weight_rows}
        self._tiles = _Tiles()
        before = np.zeros(max(self._delay, _FETCH), np.int64)
        self._kept: dict[str, NDArray[np.int64]] = dict.fromkeys(
            ("takes", "lines", "sums", "done", "waits"), before
        )
        """What the ports showed from so many cycles before that on."""
        self._running = 0
        """Commands that were taken, and are not done."""
        self._entering = 0
        """Commands that were taken, but not all whose rows have entered."""

    def judge(self, seen: Seen) -> Judged:
        self._keep(seen)
        kept, delay = self._kept, self._delay
        before = max(delay, _FETCH)
        size = max(len(kept["sums"]) - before - delay - 1, 0)
        first, end = self._blamed, self._blamed + size

        def shown(port: str, later: int = 0) -> NDArray[np.int64]:
            return kept[port][before + later : before + later + size]

        enters = shown("sums", delay) > 0
        rows = first + np.flatnonzero(enters)
        tiles = self._tiles.follow(
            first, end, rows, first + np.flatnonzero(shown("lines", -_FETCH))
        )
        sums = np.append(0, np.cumsum(kept["sums"]))
        flying = sums[before + delay : end - first + before + delay] > sums[before : before + size]
        moves = shown("takes") - (enters & (shown("done", delay + 1) > 0))
        entering = self._entering + np.cumsum(moves) - moves

        name = self.causes.index
        causes = np.full(size, name("idle"))
        for n, who in reversed(list(enumerate(WAITED))):
            causes[shown("waits") >> n & 1 > 0] = name(f"waiting_{who}")
        causes[(shown("done") > 0) | flying] = name("draining")
        causes[entering > 0] = name("waiting_activations")
        weights = (entering > 0) & tiles.between & ~tiles.loaded
        causes[weights] = name("waiting_weights")
        causes[weights & tiles.shifts] = name("shifting_weights")
        causes[enters] = name("computing")

        self._entering += int(moves.sum())
        self._kept = {port: each[size:] for port, each in kept.items()}
        return Judged(causes, {"macs": tiles.macs})

    def _keep(self, seen: Seen) -> None:
        """Add what was seen to what is kept; without a command that runs, waits may be seen."""
        for command in seen.commands.values():
            tiles = list(tiles_of(command, **self._sizes))
            self._tiles.to_load += tiles
            self._tiles.to_pass += tiles
        takes = np.zeros(seen.cycles, np.int64)
        takes[list(seen.commands)] = 1
        done = (seen.ports["done"] > 0).astype(np.int64)
        running = self._running + np.cumsum(takes) - (np.cumsum(done) - done)
        assert (running >= done).all(), "the matrix engine must be done with a command"
        self._running = int(running[-1] - done[-1])
        lines = seen.ports["lines"] == MOVES
        waits = np.where((running == 0) | (takes > 0), seen.ports["waits"], 0)
        sums = seen.ports["sums"] > 0
        new = {"takes": takes, "lines": lines, "sums": sums, "done": done, "waits": waits}
        self._kept = {
            port: np.append(self._kept[port], each.astype(np.int64)) for port, each in new.items()
        }
