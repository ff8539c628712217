# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the causes of the engine that stores, from its ports."""

from collections import deque
from typing import Any

from diptych.systolic.dma_store import STORE_CAUSES
from diptych.systolic.isa import STORE, StoreOp
from diptych_sim.host.fields import Fields
from diptych_tb.cause_observer import CauseObserver

__all__ = ["StoreObserver"]

_TO_LINK = {op.value for op in (StoreOp.KEYS, StoreOp.VALUES, StoreOp.TOKEN)}


class StoreObserver(CauseObserver):
    """Follows commands from their stream to ``done``, and the words of the link.

    A cycle with a word for the link is its, whether it is taken or not; any other is the oldest
    command's, which writes to HBM or reads words.
    """

    def __init__(self, dut: Any) -> None:
        super().__init__(dut.clk, {c: getattr(dut, f"count_{c}") for c in STORE_CAUSES})
        self._dut = dut
        self._unpack = Fields(STORE).unpack
        self._links: deque[bool] = deque()
        """Of commands that were taken and are not done: whether they go to the link."""

    def observe(self) -> None:
        dut, running = self._dut, self._links
        if dut.o__valid.value:
            self.blame("sending" if dut.o__ready.value else "waiting_link")
        elif not running:
            self.blame("idle")
        else:
            self.blame("reading" if running[0] else "writing_hbm")
        if dut.done.value:
            running.popleft()
        if dut.i__valid.value and dut.i__ready.value:
            running.append(self._unpack(int(dut.i__payload.value))["head"]["op"] in _TO_LINK)
