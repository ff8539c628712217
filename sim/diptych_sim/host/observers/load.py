# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the causes of the engine that loads, from its ports."""

from collections import deque
from typing import Any

from diptych.systolic.dma_load import LOAD_CAUSES
from diptych.systolic.isa import LOAD, Target
from diptych_sim.host.fields import Fields
from diptych_sim.host.triggers import RisingEdge

from .cause import CauseObserver
from .ports import CommandPorts

__all__ = ["LoadObserver"]

_PORTS = ("scratchpad", "parameters", "vectors", "dynamic", "biases")


class LoadObserver(CauseObserver):
    """Follows commands from their stream to ``done``, and the writes of all memories.

    A command starts 2 cycles after it was taken, or in the cycle after the ``done`` of the one
    before. Two writes are inside the engine, and seen by the beats that they are made of: those
    of the table, and the parts of an entry that is wider than a beat.

    Parameters
    ----------
    dut : handle
        The engine.
    clk : handle
        Its clock.
    commands : CommandPorts
        Where its commands are seen.
    entry_bytes : int
        Bytes of an entry of the parameters.
    limit : int, optional
        As of :class:`.CauseObserver`.
    """

    def __init__(
        self,
        dut: Any,
        clk: Any,
        commands: CommandPorts,
        *,
        entry_bytes: int,
        limit: int | None = None,
    ) -> None:
        counters = {c: getattr(dut, f"count_{c}") for c in LOAD_CAUSES}
        super().__init__(clk, counters, name="the load engine", limit=limit)
        self._commands = commands
        self._beat = dut.axi__r__valid
        self._starts = RisingEdge(commands.valid)
        self._unpack = Fields(LOAD).unpack
        self._enables = [(getattr(dut, f"{p}__en"), getattr(dut, f"{p}__ready")) for p in _PORTS]
        self._wide = {Target.PARAMETERS, Target.BIASES} if entry_bytes > 64 else set()
        if entry_bytes > 128:
            self._wide.add(Target.VECTOR)
        self._waiting: deque[tuple[int, Target]] = deque()
        """Commands that have not started, and the first cycle in which each may be seen."""
        self._running: Target | None = None

    def observe(self) -> None:
        commands, target = self._commands, self._running
        done = bool(commands.done.value)
        self.blame("idle" if target is None else self._cause(target, done))
        if target is None or done:
            self._running = None
            if self._waiting and self._waiting[0][0] <= self.cycle:
                self._running = self._waiting.popleft()[1]
        if commands.valid.value and commands.ready.value:
            head = self._unpack(int(commands.payload.value))["head"]
            self._waiting.append((self.cycle + 1, Target(head["op"])))

    def rest(self) -> Any:
        if self._running is None and not self._waiting and not self._commands.valid.value:
            return self._starts
        return None

    def _cause(self, target: Target, done: bool) -> str:
        for enable, ready in self._enables:
            if enable.value:
                return "writing" if ready.value else "waiting_memory"
        by_beats = not done and (target is Target.TABLE or target in self._wide)
        if by_beats and self._beat.value:
            return "writing"
        return "waiting_hbm"
