# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the matrix engine's causes and products, from its commands and ports."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from diptych.systolic.isa import MATRIX, Causal, Modes, Start
from diptych.systolic.matrix import MATRIX_CAUSES, WAITED
from diptych_sim.host.fields import Fields

from .cause import CauseObserver
from .ports import CommandPorts

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


class _Ports(NamedTuple):
    """What the ports showed in a cycle."""

    takes: bool
    reads_weights: bool
    sums: bool
    done: bool
    waits: int


_NOTHING = _Ports(takes=False, reads_weights=False, sums=False, done=False, waits=0)


class MatrixObserver(CauseObserver):
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
        counters = {name: dut[f"count_{name}"] for name in (*MATRIX_CAUSES, "macs")}
        super().__init__(clk, counters, name="the matrix engine", limit=limit)
        self._commands = commands
        self._reads, self._granted = dut["w__en"], dut["w__ready"]
        self._sums, self._waits = dut["sums__en"], dut["waits"]
        self._unpack = Fields(MATRIX).unpack
        self._sizes = {"rows": rows, "columns": columns, "weight_rows": weight_rows}
        self._delay = rows + columns
        # The last ``delay`` cycles that are judged, the one that is judged, and what followed.
        self._ports: deque[_Ports] = deque([_NOTHING] * self._delay)
        self._to_load: deque[TileOfWeights] = deque()
        self._to_pass: deque[TileOfWeights] = deque()
        self._running = 0
        """Commands that were taken, and are not done."""
        self._entering = 0
        """Commands that were taken, but not all whose rows have entered."""
        self._came = 0
        """Lines of weights that are there, and have not entered."""
        self._left = 0
        """Lines, or rows, that the current tile still needs."""
        self._rows_left = 0
        self._macs = 0
        """Products of a row of the current tile."""
        self._loaded = False

    def observe(self) -> None:
        ports, commands = self._ports, self._commands
        takes = bool(commands.valid.value and commands.ready.value)
        if takes:
            self._running += 1
            tiles = list(tiles_of(self._unpack(int(commands.payload.value)), **self._sizes))
            self._to_load += tiles
            self._to_pass += tiles
        if self._running:
            reads = bool(self._reads.value and self._granted.value)
            sums, done = bool(self._sums.value), bool(commands.done.value)
            ports.append(_Ports(takes, reads, sums, done, int(self._waits.value) if takes else 0))
            self._running -= done
        else:
            waits = int(self._waits.value)
            ports.append(_Ports(False, False, False, False, waits) if waits else _NOTHING)
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
        if first:
            assert self._loaded, "a row entered before the weights of its tile"
            tile = self._to_pass.popleft()
            self._rows_left, self._macs = tile.rows, tile.macs
        if enters:
            self.add("macs", self._macs)
        self.blame(self._cause(enters, between, shifts, now))

        if first:
            self._loaded = False
        self._rows_left -= enters
        if shifts:
            self._came -= 1
            self._left = self._left or self._to_load.popleft().lines
            self._left -= 1
            self._loaded = self._left == 0
        self._entering += now.takes - (enters and ports[2 * delay + 1].done)

    def _cause(self, enters: bool, between: bool, shifts: bool, now: _Ports) -> str:
        if enters:
            return "computing"
        if self._entering and between and not self._loaded:
            return "shifting_weights" if shifts else "waiting_weights"
        if self._entering:
            return "waiting_activations"
        if now.done or self._in_flight():
            return "draining"
        for n, who in enumerate(WAITED):
            if now.waits >> n & 1:
                return f"waiting_{who}"
        return "idle"

    def _in_flight(self) -> bool:
        """Whether rows are in the array in the cycle that is judged."""
        ports, delay = self._ports, self._delay
        return any(ports[n].sums for n in range(delay, 2 * delay))
