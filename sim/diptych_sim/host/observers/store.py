# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the causes of the engine that stores, from its ports."""

from collections import deque
from typing import Any

from diptych.systolic.dma_store import STORE_CAUSES
from diptych.systolic.isa import STORE, StoreOp
from diptych_sim.host.fields import Fields
from diptych_sim.host.triggers import RisingEdge

from .cause import CauseObserver
from .ports import CommandPorts

__all__ = ["StoreObserver"]

_TO_LINK = {op.value for op in (StoreOp.KEYS, StoreOp.VALUES, StoreOp.TOKEN)}


class StoreObserver(CauseObserver):
    """Follows commands from their stream to ``done``, and the words of the link.

    A cycle with a word for the link is its, whether it is taken or not; any other is the oldest
    command's, which writes to HBM or reads words.

    Parameters
    ----------
    dut : handle
        The engine.
    clk : handle
        Its clock.
    commands : CommandPorts
        Where its commands are seen.
    limit : int, optional
        As of :class:`.CauseObserver`.
    """

    def __init__(
        self, dut: Any, clk: Any, commands: CommandPorts, *, limit: int | None = None
    ) -> None:
        counters = {c: getattr(dut, f"count_{c}") for c in STORE_CAUSES}
        super().__init__(clk, counters, name="the store engine", limit=limit)
        self._commands = commands
        self._out_valid, self._out_ready = dut.o__valid, dut.o__ready
        self._starts = RisingEdge(commands.valid)
        self._unpack = Fields(STORE).unpack
        self._links: deque[bool] = deque()
        """Of commands that were taken and are not done: whether they go to the link."""

    def observe(self) -> None:
        commands, running = self._commands, self._links
        if self._out_valid.value:
            self.blame("sending" if self._out_ready.value else "waiting_link")
        elif not running:
            self.blame("idle")
        else:
            self.blame("reading" if running[0] else "writing_hbm")
        if commands.done.value:
            running.popleft()
        if commands.valid.value and commands.ready.value:
            running.append(self._unpack(int(commands.payload.value))["head"]["op"] in _TO_LINK)

    def rest(self) -> Any:
        return None
