# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the matrix engine's causes, from its commands and ports."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diptych.systolic.matrix import MATRIX_CAUSES, WAITED
from diptych_tb.cause_observer import CauseObserver

__all__ = ["MatrixObserver"]

_FETCH = 2
"""Cycles from the read of a line of weights to its first chance to enter the array."""


@dataclass
class _Ports:
    """What the ports showed in a cycle."""

    takes: bool
    reads_weights: bool
    sums: bool
    done: bool
    waits: int


class MatrixObserver(CauseObserver):
    """Finds when rows entered the array by when their sums left it, and follows the weights.

    A row's sums leave rows + columns cycles after it entered, so the cause of a cycle is known that
    much later. A line of weights enters as soon as it has come and the tile before has begun; that
    tile is known from the commands.

    Parameters
    ----------
    dut : handle
        The engine, with its counters public.
    rows, columns : int
        Extent of the array.
    """

    def __init__(self, dut: Any, *, rows: int, columns: int) -> None:
        super().__init__(dut.clk, {c: dut[f"count_{c}"] for c in MATRIX_CAUSES})
        self._dut = dut
        self._delay = rows + columns
        # The last ``delay`` cycles that are judged, the one that is judged, and what followed.
        self._ports: deque[_Ports] = deque([_Ports(False, False, False, False, 0)] * self._delay)
        self._lines: deque[int] = deque()
        self._rows: deque[int] = deque()
        self._commands = 0
        """Commands that were taken, but not all whose rows have entered."""
        self._came = 0
        """Lines of weights that are there, and have not entered."""
        self._left = 0
        """Lines, or rows, that the current tile still needs."""
        self._rows_left = 0
        self._loaded = False

    def expect(self, tiles: Iterable[int], lines: int) -> None:
        """Announce a command: the rows that pass each of its tiles, and the lines of a tile."""
        for rows in tiles:
            self._rows.append(rows)
            self._lines.append(lines)

    def observe(self) -> None:
        dut, ports = self._dut, self._ports
        ports.append(
            _Ports(
                takes=bool(dut.i__valid.value and dut.i__ready.value),
                reads_weights=bool(dut.w__en.value and dut.w__ready.value),
                sums=bool(dut.sums__en.value),
                done=bool(dut.done.value),
                waits=int(dut.waits.value),
            )
        )
        if len(ports) == 2 * self._delay + 2:
            self._judge()
            ports.popleft()

    def _judge(self) -> None:
        ports, delay = self._ports, self._delay
        now = ports[delay]
        enters = ports[2 * delay].sums
        self._came += ports[delay - _FETCH].reads_weights
        between = self._rows_left == 0
        first = enters and between
        shifts = self._came > 0 and (not self._loaded or first)
        in_flight = any(ports[n].sums for n in range(delay, 2 * delay)) or now.done
        self.blame(self._cause(enters, between, shifts, in_flight, now.waits))

        if first:
            assert self._loaded, "a row entered before the weights of its tile"
            self._rows_left = self._rows.popleft()
            self._loaded = False
        self._rows_left -= enters
        if shifts:
            self._came -= 1
            self._left = self._left or self._lines.popleft()
            self._left -= 1
            self._loaded = self._left == 0
        self._commands += now.takes - (enters and ports[2 * delay + 1].done)

    def _cause(self, enters: bool, between: bool, shifts: bool, in_flight: bool, waits: int) -> str:
        if enters:
            return "computing"
        if self._commands and between and not self._loaded:
            return "shifting_weights" if shifts else "waiting_weights"
        if self._commands:
            return "waiting_activations"
        if in_flight:
            return "draining"
        for n, who in enumerate(WAITED):
            if waits >> n & 1:
                return f"waiting_{who}"
        return "idle"
