# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the causes of the engine that stores, from its ports."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.systolic.dma_store import STORE_CAUSES
from diptych.systolic.isa import STORE, StoreOp

from .ports import CommandPorts
from .stretch import MOVES, WAITS, Judged, Seen, StretchObserver

__all__ = ["StoreObserver"]

_TO_LINK = {op.value for op in (StoreOp.KEYS, StoreOp.VALUES, StoreOp.TOKEN)}


class StoreObserver(StretchObserver):
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

    causes = STORE_CAUSES

    def __init__(
        self, dut: Any, clk: Any, commands: CommandPorts, *, limit: int | None = None
    ) -> None:
        super().__init__(
            clk,
            {c: getattr(dut, f"count_{c}") for c in STORE_CAUSES},
            {"out": (dut.o__valid, dut.o__ready), "done": commands.done},
            commands,
            STORE,
            late=0,
            name="the store engine",
            limit=limit,
        )
        self._links: list[bool] = []
        """Of commands that were taken and are not done: whether they go to the link."""

    def judge(self, seen: Seen) -> Judged:
        done = seen.ports["done"] != 0
        taken = np.zeros(seen.cycles, np.int64)
        taken[list(seen.commands)] = 1
        links = self._links
        running = len(links) + np.cumsum(taken - done) - (taken - done)
        assert not (done & (running == 0)).any(), "the store engine must be done with a command"
        links += [fields["head"]["op"] in _TO_LINK for fields in seen.commands.values()]
        oldest = np.cumsum(done) - done
        reads = np.array([*links, False])[np.minimum(oldest, len(links))]
        name = self.causes.index
        causes = np.where(running == 0, name("idle"), name("writing_hbm"))
        causes[(running > 0) & reads] = name("reading")
        causes[seen.ports["out"] == WAITS] = name("waiting_link")
        causes[seen.ports["out"] == MOVES] = name("sending")
        del links[: np.count_nonzero(done)]
        return Judged(causes, {})
