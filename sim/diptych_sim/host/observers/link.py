# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of the KV link's causes, from its two ends and the word on the wires."""

from collections import deque
from typing import Any

from diptych.link.frames import LinkWord
from diptych.link.link import LINK_CAUSES
from diptych.systolic.isa import Handoff, HandoffKind
from diptych_sim.host.fields import Fields
from diptych_sim.host.triggers import First, RisingEdge, ValueChange

from .cause import CauseObserver
from .ports import stream_handles

__all__ = ["LinkObserver"]

_HEADER = 3
_TOKEN_PACKET = _HEADER + 1


class LinkObserver(CauseObserver):
    """Follows frames from the words that are handed off to the words of their load packets.

    The answer that a frame is delivered takes 3 cycles and the latency of the wires.

    Parameters
    ----------
    dut : handle
        The link, with ``o`` of its transmitter public.
    clk : handle
        Its clock.
    rows, latency : int
        Parameters of the link.
    heads : int
        KV heads of a position.
    activates : bool
        Whether tokens are sent to the mesh.
    limit : int, optional
        As of :class:`.CauseObserver`.
    """

    def __init__(
        self,
        dut: Any,
        clk: Any,
        *,
        rows: int,
        latency: int,
        heads: int,
        activates: bool,
        limit: int | None = None,
    ) -> None:
        counters = {c: getattr(dut, f"count_link_{c}") for c in LINK_CAUSES}
        super().__init__(clk, counters, name="the link", limit=limit)
        self._valid, self._ready, self._payload = stream_handles(dut, "i")
        self._word, self._token = dut.transmitter.o, dut.token_valid
        self._begins = RisingEdge(self._valid), ValueChange(self._word)
        self._rows, self._answer, self._heads = rows, latency + 3, heads
        self._activates = activates
        self._outs = [
            (getattr(dut, f"o__{r}__valid"), getattr(dut, f"o__{r}__ready")) for r in range(rows)
        ]
        self._unpack = Fields(Handoff()).unpack
        self._unpack_word = Fields(LinkWord()).unpack
        self._words = 0
        """Words of the frame that is being handed off."""
        self._frames: deque[int] = deque()
        """Words that each frame that is not delivered becomes; 0 of a token that is not sent."""
        self._leaving = 0
        """Words of the oldest frame that have left."""
        self._delivered: deque[int] = deque()
        """Cycles in which answers arrive."""
        self._unknown = 0
        """Frames of which the transmitter does not know that they are delivered."""

    def observe(self) -> None:
        if self._delivered and self._delivered[0] == self.cycle:
            self._delivered.popleft()
            self._unknown -= 1
        offered = bool(self._valid.value)
        if self._on_wires():
            self.blame("sending")
        else:
            self.blame("waiting" if offered or self._words or self._unknown else "idle")
        self._deliver()
        if offered and self._ready.value:
            self._hand_off(self._unpack(int(self._payload.value)))

    def rest(self) -> Any:
        if self._words or self._unknown or self._valid.value or self._on_wires():
            return None
        # A frame that is sent again may follow when all are delivered.
        return First(*self._begins)

    def _on_wires(self) -> bool:
        return bool(self._unpack_word(int(self._word.value))["valid"])

    def _hand_off(self, beat: dict[str, Any]) -> None:
        self._words += 1
        if not beat["last"]:
            return
        becomes = _HEADER * self._heads + self._words
        if beat["kind"] == HandoffKind.TOKEN.value:
            becomes = _TOKEN_PACKET * self._rows if self._activates else 0
        self._frames.append(becomes)
        self._unknown += 1
        self._words = 0

    def _leaves(self) -> bool:
        """Return whether a word leaves: words of a packet do in one row, which is looked at first."""
        for number, (valid, ready) in enumerate(self._outs):
            if valid.value and ready.value:
                if number:
                    self._outs.insert(0, self._outs.pop(number))
                return True
        return False

    def _deliver(self) -> None:
        ends = False
        if self._frames and not self._frames[0]:
            ends = bool(self._token.value)
        elif self._leaves():
            self._leaving += 1
            ends = self._leaving == self._frames[0]
        if ends:
            self._frames.popleft()
            self._leaving = 0
            self._delivered.append(self.cycle + self._answer)
