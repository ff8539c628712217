# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the vector unit's causes, from commands and the ports of its memories."""

from typing import Any

from diptych.systolic.isa import VECTOR, VectorOp
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.host.fields import Fields
from diptych_sim.host.triggers import RisingEdge

from .cause import CauseObserver
from .ports import CommandPorts

__all__ = ["CAUSES", "VectorObserver"]

CAUSES = (
    "waiting_scratchpad",
    "waiting_vector",
    "waiting_accumulator",
    "waiting_parameter",
    "computing",
    "starting",
    "draining",
    "idle",
)
_PORTS = {
    "waiting_scratchpad": ("scratchpad_write", "scratchpad_read"),
    "waiting_vector": ("vectors_write", "vectors_read"),
    "waiting_accumulator": ("accumulators",),
    "waiting_parameter": ("parameters", "biases"),
}
_PHASES = {VectorOp.ROTATE: 2, VectorOp.ROTATE_AGAIN: 2, VectorOp.GATE: 2}


class VectorObserver(CauseObserver):
    """Counts the steps that a command needs down to 0, one in each cycle in which no port waits.

    The cycle after a command is taken starts it; when all its steps are done, it drains until
    ``done``.

    Parameters
    ----------
    dut : handle
        The vector unit.
    clk : handle
        Its clock.
    commands : CommandPorts
        Where its commands are seen.
    sizes : VectorSizes
        Sizes of its memories.
    limit : int, optional
        As of :class:`.CauseObserver`.
    """

    def __init__(
        self,
        dut: Any,
        clk: Any,
        commands: CommandPorts,
        sizes: VectorSizes,
        *,
        limit: int | None = None,
    ) -> None:
        counters = {c: dut[f"count_{c}"] for c in CAUSES}
        super().__init__(clk, counters, name="the vector unit", limit=limit)
        self._commands = commands
        self._sizes = sizes
        self._begins = RisingEdge(commands.valid)
        self._unpack = Fields(VECTOR).unpack
        self._ports = {
            cause: [(dut[f"{port}__en"], dut[f"{port}__ready"]) for port in ports]
            for cause, ports in _PORTS.items()
        }
        self._starts = False
        self._left: int | None = None
        """Steps of the command that runs; None while none does."""

    def observe(self) -> None:
        commands = self._commands
        if self._left is None:
            self.blame("idle")
            if commands.valid.value and commands.ready.value:
                self._left = self._steps(self._unpack(int(commands.payload.value)))
                self._starts = True
            return
        if self._starts:
            self._starts = False
            self.blame("starting")
            return
        waits = self._waits()
        if waits is not None:
            self.blame(waits)
        elif self._left:
            self._left -= 1
            self.blame("computing")
        else:
            self.blame("draining")
        if commands.done.value:
            assert not self._left, f"done with {self._left} steps left"
            self._left = None

    def rest(self) -> Any:
        return None if self._left is not None or self._commands.valid.value else self._begins

    def _waits(self) -> str | None:
        for cause, ports in self._ports.items():
            for enable, ready in ports:
                if enable.value and not ready.value:
                    return cause
        return None

    def _steps(self, command: dict[str, Any]) -> int:
        """Return the steps of a command: phases of the column tiles of all rows."""
        op = VectorOp(command["head"]["op"])
        rows, tiles = command["extent"] & 0xFFFF, command["extent"] >> 16
        first = command["first"] & 0xFFFF
        if not rows or not tiles:
            return 0
        if op is VectorOp.ARGMAX:
            return tiles
        if op is VectorOp.NORM:
            return rows * (tiles + 1)  # one for epsilon
        if op not in (VectorOp.TOP, VectorOp.EXPONENTIAL):
            return rows * tiles * _PHASES.get(op, 1)
        steps = 0
        for row in range(rows):
            positions = first + row + 1
            if op is VectorOp.EXPONENTIAL:
                positions = -(-positions // self._sizes.line) * self._sizes.line
            steps += min(tiles, max(1, -(-positions // self._sizes.lanes)))
        return steps
